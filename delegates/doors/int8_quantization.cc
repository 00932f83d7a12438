#include "doors/int8_quantization.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "doors/op.h"

namespace tflite_smart {
namespace {

Status CheckActivations(const tfl::Tensor& tensor, const char* what) {
  const auto& q = tensor.params;
  if (std::isfinite(q.scale) && q.scale > 0 && q.zero_point >= INT8_MIN && q.zero_point <= INT8_MAX) return Status();
  return MakeError(Code::kInvalidArgument, "%s must have one scale > 0 and one zero point -128..127. Received: scale=%g, zero_point=%d.", what,
                   static_cast<double>(q.scale), q.zero_point);
}

// TFLite's: in float, halves away from zero, and saturating here where TFLite refuses.
int32_t Quantize(float value, const tfl::Tensor& y) {
  const float q = std::round(value / y.params.scale) + static_cast<float>(y.params.zero_point);
  return static_cast<int32_t>(std::min(std::max(q, static_cast<float>(INT8_MIN)), static_cast<float>(INT8_MAX)));
}

}  // namespace

Status WeightScales::Read(const tfl::Tensor* tensor, const PackedWeight& weight) {
  Shape shape;
  TFS_RETURN_IF_ERROR(ReadShape(tensor, tfl::kFloat32, "weight scales", &shape));
  TFS_RETURN_IF_ERROR(CheckMemory(tensor, shape, "weight scales"));
  const int64_t count = shape.elements();
  if (count != 1 && count != static_cast<int64_t>(weight.num_channels)) {
    return MakeError(Code::kInvalidArgument, "weight scales must be 1 or %u. Received: %lld.", weight.num_channels, static_cast<long long>(count));
  }
  scales_.reset(new (std::nothrow) float[weight.num_channels]);
  if (scales_ == nullptr) return MakeError(Code::kOutOfMemory, "weight scales: no memory for %u.", weight.num_channels);
  for (uint32_t n = 0; n < weight.num_channels; ++n) {
    scales_[n] = tensor->data.f[count == 1 ? 0 : n];
    if (!std::isfinite(scales_[n]) || scales_[n] < 0) {
      return MakeError(Code::kInvalidArgument, "weight scales must be finite and not negative. Received: %g.", static_cast<double>(scales_[n]));
    }
  }
  return Status();
}

Status Int8Quantization::Read(const tfl::Tensor& x, const tfl::Tensor& y, const tfl::Tensor* scales, const PackedWeight& weight,
                              Activation activation, bool fully_connected) {
  TFS_RETURN_IF_ERROR(CheckActivations(x, "input"));
  TFS_RETURN_IF_ERROR(CheckActivations(y, "output"));
  WeightScales weight_scales;
  TFS_RETURN_IF_ERROR(weight_scales.Read(scales, weight));
  x_zero_point_ = x.params.zero_point;
  int32_t min = INT8_MIN, max = INT8_MAX;
  if (activation == Activation::kRelu || activation == Activation::kRelu6) min = Quantize(0.0f, y);
  if (activation == Activation::kReluN1To1) min = Quantize(-1.0f, y);
  if (activation == Activation::kReluN1To1) max = Quantize(1.0f, y);
  if (activation == Activation::kRelu6) max = Quantize(6.0f, y);

  const uint32_t n = weight.num_channels;
  if (!requantization_.Allocate(n, fully_connected)) return MakeError(Code::kOutOfMemory, "weight scales: no memory for %u.", n);
  requantization_.SetOutput(y.params.zero_point, min, max);
  for (uint32_t i = 0; i < n; ++i) {
    const double product = static_cast<double>(x.params.scale) * static_cast<double>(weight_scales.scales()[i]);
    requantization_.SetFactor(i, product / static_cast<double>(y.params.scale));
  }
  return Status();
}

void Int8Quantization::Fill(FixedInt8* layer) const {
  layer->requantization = &requantization_;
  layer->x_zero_point = x_zero_point_;
}

}  // namespace tflite_smart
