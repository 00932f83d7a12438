// From the int32 sum of an integer layer to its int8 output, as TFLite's reference kernels do it, bit for bit. Two ways:
// * Convolutions: a fixed-point factor, rounded twice (gemmlowp's "double rounding", which the released runtimes use):
//     high = floor((sum * 2^left * multiplier + 2^30) / 2^31);   result = high / 2^right, rounded to the nearest, halves away from zero
// * Fully connected: round(sum * scale) in double, halves away from zero.
// Measured with ai-edge-litert 2.3.0, BUILTIN_REF; tests/delegates/test_int8.py compares with it.
#ifndef TFLITE_SMART_KERNELS_REQUANTIZE_H_
#define TFLITE_SMART_KERNELS_REQUANTIZE_H_

#include <cstdint>

#include "kernels/int8_kernels.h"

namespace tflite_smart {

// multiplier * 2^(shift - 31); multiplier is 0 or has its bit 30 set.
struct FixedPoint {
  int32_t multiplier;
  int32_t shift;
};

// TFLite's QuantizeMultiplier. factor >= 0.
FixedPoint ToFixedPoint(double factor);

// How a whole layer is requantized. Exactly one of the two vectors is there.
struct Requantization {
  const FixedPoint* fixed_point;  // by channel
  const double* scales;           // by channel
  int32_t zero_point;             // of the output
  int32_t min, max;               // of the output, from the fused activation
};

// A bound of |sum| for `width` channels with K weights each; bias: theirs, or null.
int64_t LargestSum(const int32_t* bias, uint32_t width, uint32_t channel_elements);

// Fills all of `epilogue` but the bias, for `width` channels from `first_channel`.
// largest_sum: bound of |sum| for all channels.
void SetEpilogue(const Requantization& requantization, uint32_t first_channel, uint32_t width, int64_t largest_sum,
                 Int8Epilogue* epilogue);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_REQUANTIZE_H_
