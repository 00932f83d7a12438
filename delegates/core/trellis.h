// Rounding by a search through a trellis, for the converter: converter/trellis.py is the readable reference and explains it. The same
// operations in the same order, so the same ids.
#ifndef TFLITE_SMART_CORE_TRELLIS_H_
#define TFLITE_SMART_CORE_TRELLIS_H_

#include <cstdint>

#include "core/format.h"

namespace tflite_smart {

constexpr uint32_t kMaxTrellisColumns = 64;

// Everything is contiguous.
struct TrellisBlock {
  const float* weights;     // [channel][column], in steps, as asked
  const float* asked;       // what the columns before this block ask for
  const float* matrix;      // [column][column]: what column j passes on to column k > j
  const float* importance;  // [column]
  uint32_t num_channels, num_columns;
  bool dependent;
};

// states: one a channel, moved on. ids, values: [channel][column].
void RoundBlock(const TrellisBlock& block, uint8_t* states, int8_t* ids, int8_t* values);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_TRELLIS_H_
