// From the int32 sum of an integer layer to its int8 output, as TFLite's reference kernels do it, bit for bit. Two ways:
// * Convolutions: a fixed-point factor, rounded twice (gemmlowp's "double rounding", which the released runtimes use):
//     high = floor((sum * 2^left * multiplier + 2^30) / 2^31);   result = high / 2^right, rounded to the nearest, halves away from zero
// * Fully connected: round(sum * scale) in double, halves away from zero.
// Measured with ai-edge-litert 2.3.0, BUILTIN_REF; tests/delegates/test_int8.py compares with it.
#ifndef TFLITE_SMART_KERNELS_REQUANTIZE_H_
#define TFLITE_SMART_KERNELS_REQUANTIZE_H_

#include <cstdint>
#include <memory>

#include "kernels/int8_kernels.h"

namespace tflite_smart {

// How a whole layer is requantized.
class Requantization {
 public:
  // real: as fully connected layers are. False if there is no memory. All factors are 0 then.
  bool Allocate(uint32_t num_channels, bool real);

  // 0 or more.
  void SetFactor(uint32_t channel, double factor);

  // Of the output; min and max from the fused activation.
  void SetOutput(int32_t zero_point, int32_t min, int32_t max);

  // Fills in all of `epilogue` but the bias.
  void SetEpilogue(uint32_t panel, Int8Epilogue* epilogue) const;

 private:
  std::unique_ptr<PanelFactors[]> panels_;
  int32_t zero_point_ = 0, min_ = 0, max_ = 0;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_REQUANTIZE_H_
