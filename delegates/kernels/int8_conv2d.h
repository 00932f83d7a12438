// Convolution, depthwise convolution and fully connected in integers. Which layer is which, and when the GEMM runs and when the lanes do, is as in
// conv2d.h. There are two kinds:
// * fixed: int8 in, int8 out, static scales and zero points, from a packed weight of value kind `integer`; equal to TFLite's reference kernels bit
//   for bit.
// * dynamic: float in, float out (`compute=int8`). Every image of a batch, every row of a fully connected layer, gets a scale and a zero point of its
//   own from the least and the largest value in it, as in LiteRT's dynamic-range kernels; the ids of the packed weight are the other factor.
#ifndef TFLITE_SMART_KERNELS_INT8_CONV2D_H_
#define TFLITE_SMART_KERNELS_INT8_CONV2D_H_

#include "kernels/conv2d.h"
#include "kernels/requantize.h"

namespace tflite_smart {

// The caller has checked that weight, geometry and buffers fit together, here and below.
struct FixedInt8 {
  const Requantization* requantization;
  int32_t x_zero_point;  // -128..127
  const int32_t* bias;   // out_channels, or null
  const int8_t* x;
  int8_t* y;
};

class KeptPanels;  // int8_kept.h

// Below, kept: where to keep the panels as the kernels read them, or null. They are kept where KeepsPanels() says so, which otherwise takes too much
// memory: more than two bytes a weight, as in panels of few channels, and kKeptSlackBytes a layer.
constexpr uint64_t kKeptSlackBytes = 16 << 10;
bool KeepsPanels(const PackedWeight& weight, const ConvGeometry& geometry);

Status RunFixedInt8Conv2D(Runtime* runtime, const PackedWeight& weight, const ConvGeometry& geometry, const FixedInt8& layer, KeptPanels* kept);

// Whether RunDynamicInt8Conv2D() takes this layer and is faster than float arithmetic. Not for codebooks, depthwise convolutions, many small groups, and ids that
// may not fit.
bool IsDynamicInt8(const PackedWeight& weight, const ConvGeometry& geometry);

// Values of x must be finite: an image that holds others gives unspecified values.
Status RunDynamicInt8Conv2D(Runtime* runtime, const ConvLayer& layer, KeptPanels* kept);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_CONV2D_H_
