// A bias that the file has in float16, as the floats that the kernels add.
#ifndef TFLITE_SMART_DOORS_HALF_BIAS_H_
#define TFLITE_SMART_DOORS_HALF_BIAS_H_

#include <memory>

#include "core/status.h"
#include "doors/tflite_abi.h"

namespace tflite_smart {

class HalfBias {
 public:
  // tensor: constant float16 of `num_channels` elements, all finite.
  Status Read(const tfl::Tensor& tensor, uint32_t num_channels);

  const float* values() const { return values_.get(); }

 private:
  std::unique_ptr<float[]> values_;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_HALF_BIAS_H_
