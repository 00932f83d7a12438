#include "kernels/requantize.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "core/format.h"

namespace tflite_smart {
namespace {

// multiplier * 2^(shift - 31); multiplier is 0 or has its bit 30 set.
struct FixedPoint {
  int32_t multiplier;
  int32_t shift;
};

// A factor of 0 in a form that the fast kernels take too.
constexpr FixedPoint kNothing = {0, -1};

// TFLite's QuantizeMultiplier.
FixedPoint ToFixedPoint(double factor) {
  if (!(factor > 0)) return kNothing;
  int shift;
  int64_t multiplier = static_cast<int64_t>(std::round(std::frexp(factor, &shift) * static_cast<double>(int64_t{1} << 31)));
  if (multiplier == int64_t{1} << 31) {
    multiplier /= 2;
    ++shift;
  }
  if (shift < -31) return kNothing;
  return {static_cast<int32_t>(multiplier), std::min(shift, 31)};
}

}  // namespace

bool Requantization::Allocate(uint32_t num_channels, bool real) {
  const uint32_t num_panels = num_channels / kLanes + (num_channels % kLanes != 0);
  panels_.reset(new (std::nothrow) PanelFactors[num_panels]());
  if (panels_ == nullptr) return false;
  for (uint32_t p = 0; p < num_panels; ++p) {
    panels_[p].real = real;
    panels_[p].small = true;
    for (uint32_t j = 0; j < kLanes; ++j) SetFactor(p * kLanes + j, 0.0);
  }
  return true;
}

void Requantization::SetFactor(uint32_t channel, double factor) {
  PanelFactors& p = panels_[channel / kLanes];
  const uint32_t j = channel % kLanes;
  if (p.real) {
    p.scale[j] = factor;
    p.factor[j] = static_cast<float>(factor);
  } else {
    const FixedPoint f = ToFixedPoint(factor);
    p.multiplier[j] = f.multiplier;
    p.shift[j] = f.shift;
    // Divided by powers of two, so exact.
    p.factor[j] = static_cast<float>(f.multiplier) / static_cast<float>(uint64_t{1} << (31 - f.shift));
    p.nudge[j] = f.shift < 0 ? 1.0f / static_cast<float>(uint64_t{1} << (1 - f.shift)) : 0.0f;
  }
  p.small = p.small && p.factor[j] < 0.5f;
}

void Requantization::SetOutput(int32_t zero_point, int32_t min, int32_t max) {
  zero_point_ = zero_point;
  min_ = min;
  max_ = max;
}

void Requantization::SetEpilogue(uint32_t panel, Int8Epilogue* e) const {
  e->factors = &panels_[panel];
  e->zero_point = zero_point_;
  e->min = min_;
  e->max = max_;
}

}  // namespace tflite_smart
