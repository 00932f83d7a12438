// A packed weight back in the memory order of the tensor it stands for.
#ifndef TFLITE_SMART_KERNELS_EXPAND_H_
#define TFLITE_SMART_KERNELS_EXPAND_H_

#include "core/packed.h"
#include "core/runtime.h"

namespace tflite_smart {

// scale[n] * value, one rounding. `weight` must not be kInteger; `out` has weight.num_elements() elements.
Status ExpandFloat(Runtime* runtime, const PackedWeight& weight, float* out);

// `weight` must be kInteger.
Status ExpandInt8(Runtime* runtime, const PackedWeight& weight, int8_t* out);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_EXPAND_H_
