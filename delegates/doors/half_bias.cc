#include "doors/half_bias.h"

#include <cstring>
#include <new>

namespace tflite_smart {
namespace {

constexpr uint32_t kSign = 0x8000, kInfinity = 0x7c00, kSmallestNormal = 0x0400;

// `half` is finite. Every float16 is a float32: nothing is rounded.
float ToFloat(uint32_t half) {
  const uint32_t magnitude = half & ~kSign;
  const uint32_t bits = (magnitude << 13) + (112u << 23);  // the mantissa to its place, and 127 for 15 as the exponent of 1
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  if (magnitude < kSmallestNormal) value = static_cast<float>(magnitude) * 0x1p-24f;
  return half & kSign ? -value : value;
}

}  // namespace

Status HalfBias::Read(const tfl::Tensor& tensor, uint32_t num_channels) {
  const bool constant = tensor.allocation_type == tfl::kMmapRo || tensor.allocation_type == tfl::kPersistentRo;
  if (!constant || tensor.data.raw == nullptr || tensor.bytes != 2ull * num_channels) {
    return MakeError(Code::kInvalidArgument, "float16 bias must be a constant of %u values. Received: %s, bytes=%zu. Convert the model again.",
                     num_channels, constant ? "constant" : "not constant", tensor.bytes);
  }
  if (values_ == nullptr) values_.reset(new (std::nothrow) float[num_channels]);
  if (values_ == nullptr) return MakeError(Code::kOutOfMemory, "bias: no memory for %u floats.", num_channels);
  for (uint32_t n = 0; n < num_channels; ++n) {
    uint16_t half;
    std::memcpy(&half, tensor.data.u8 + 2ull * n, sizeof(half));
    if ((half & kInfinity) == kInfinity) {
      return MakeError(Code::kCorrupt, "float16 bias must be finite. Received: bias[%u]=0x%04x. Convert the model again.", n, half);
    }
    values_[n] = ToFloat(half);
  }
  return Status();
}

}  // namespace tflite_smart
