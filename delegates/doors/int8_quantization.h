// What an integer layer needs to know of the quantization of its tensors, read from them once when shapes are prepared.
#ifndef TFLITE_SMART_DOORS_INT8_QUANTIZATION_H_
#define TFLITE_SMART_DOORS_INT8_QUANTIZATION_H_

#include <memory>

#include "doors/tflite_abi.h"
#include "kernels/int8_conv2d.h"

namespace tflite_smart {

// The scales of an int8 weight, one for each of its channels.
class WeightScales {
 public:
  // tensor: constant float32, one for all channels or one each; what the weight's own quantization was.
  Status Read(const tfl::Tensor* tensor, const PackedWeight& weight);

  const float* scales() const { return scales_.get(); }

 private:
  std::unique_ptr<float[]> scales_;
};

class Int8Quantization {
 public:
  // scales: see WeightScales.
  // fully_connected: TFLite requantizes its results in another way, see requantize.h.
  Status Read(const tfl::Tensor& x, const tfl::Tensor& y, const tfl::Tensor* scales, const PackedWeight& weight, Activation activation,
              bool fully_connected);

  // Sets requantization and zero point.
  void Fill(FixedInt8* layer) const;

 private:
  Requantization requantization_;
  int32_t x_zero_point_ = 0;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_INT8_QUANTIZATION_H_
