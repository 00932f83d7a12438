// The ids of a weight, decoded once and kept: for weights so small that decoding them again and again costs more time than it saves memory.
//
// A weight is kept if the ids of all that are no larger fit Runtime::cache_bytes together (see runtime.h), so no layer depends on which came
// first, a small model is kept whole, and a large one has the same few bytes for its smallest layers.
#ifndef TFLITE_SMART_CORE_KEPT_IDS_H_
#define TFLITE_SMART_CORE_KEPT_IDS_H_

#include <memory>

#include "core/packed.h"

namespace tflite_smart {

class KeptIds {
 public:
  // Decodes all of `weight` and makes it one of codec `raw` that points here, one byte an id; of `dependent` the values, which do not have to
  // be looked up any more then. Left as it was if anything goes wrong.
  Status Keep(PackedWeight* weight);

 private:
  Status Decode(const PackedWeight& weight);

  std::unique_ptr<int8_t[]> ids_;
  std::unique_ptr<uint32_t[]> tile_ends_;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_KEPT_IDS_H_
