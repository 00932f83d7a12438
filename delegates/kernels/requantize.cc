#include "kernels/requantize.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/format.h"

namespace tflite_smart {
namespace {

// A factor of 0 in a form that the fast kernels take too.
constexpr FixedPoint kNothing = {0, -1};

// exponent: -126..127
float PowerOfTwo(int exponent) {
  const int32_t bits = (exponent + 127) << 23;
  float y;
  std::memcpy(&y, &bits, sizeof(y));
  return y;
}

}  // namespace

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

int64_t LargestSum(const int32_t* bias, uint32_t width, uint32_t channel_elements) {
  int64_t largest = 0;
  for (uint32_t j = 0; bias != nullptr && j < width; ++j) largest = std::max(largest, std::abs(static_cast<int64_t>(bias[j])));
  return largest + static_cast<int64_t>(channel_elements) * 128 * 255;
}

namespace {

// Beyond, a float might not become an int32.
constexpr int64_t kLimit = int64_t{1} << 30;

void SetReal(const double* scales, uint32_t width, int64_t largest_sum, Int8Epilogue* e) {
  double largest = 0;
  for (uint32_t j = 0; j < kLanes; ++j) {
    e->scale[j] = j < width ? scales[j] : 0.0;
    largest = std::max(largest, e->scale[j]);
    e->factor[j] = static_cast<float>(e->scale[j]);
    e->nudge[j] = 0.0f;
  }
  e->fast = false;
  e->in_floats = largest * static_cast<double>(largest_sum) < static_cast<double>(kLimit);
}

void SetFixed(const FixedPoint* fixed_point, uint32_t width, int64_t largest_sum, Int8Epilogue* e) {
  int32_t largest = -31;
  for (uint32_t j = 0; j < kLanes; ++j) {
    const FixedPoint f = j < width ? fixed_point[j] : kNothing;
    largest = std::max(largest, f.shift);
    e->multiplier[j] = f.multiplier;
    e->left_shift[j] = std::max(f.shift, 0);
    e->right_shift[j] = std::max(-f.shift, 0);
    e->half[j] = f.shift < 0 ? int32_t{1} << (-f.shift - 1) : 0;
    e->factor[j] = static_cast<float>(f.multiplier) * PowerOfTwo(f.shift - 31);
    e->nudge[j] = f.shift < 0 ? PowerOfTwo(f.shift - 1) : 0.0f;
  }
  e->fast = largest < 0 && largest_sum < kLimit;
  e->in_floats = largest_sum < kLimit >> std::max(largest, 0);
}

}  // namespace

void SetEpilogue(const Requantization& requantization, uint32_t first_channel, uint32_t width, int64_t largest_sum,
                 Int8Epilogue* e) {
  e->real = requantization.scales != nullptr;
  e->zero_point = requantization.zero_point;
  e->min = requantization.min;
  e->max = requantization.max;
  if (e->real) return SetReal(requantization.scales + first_channel, width, largest_sum, e);
  SetFixed(requantization.fixed_point + first_channel, width, largest_sum, e);
}

}  // namespace tflite_smart
