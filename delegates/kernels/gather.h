// Rows of an embedding table that stays packed: only the tiles that hold a wanted row are decoded, each once.
#ifndef TFLITE_SMART_KERNELS_GATHER_H_
#define TFLITE_SMART_KERNELS_GATHER_H_

#include "core/packed.h"
#include "core/runtime.h"

namespace tflite_smart {

// A wanted row and where it goes.
struct GatherRow {
  uint32_t row;
  uint32_t place;
};

// out[place * K + k] = w[row, k]. `weight` is not kInteger and its channel axis is the first (inner_elements = K). Sorts `rows`; every
// row must be below weight.num_channels.
Status GatherRows(Runtime* runtime, const PackedWeight& weight, GatherRow* rows, size_t num_rows, float* out);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_GATHER_H_
