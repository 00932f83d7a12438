// Convolution, depthwise convolution and fully connected in integers, from a packed weight of value kind `integer`: int8 in, int8 out, static
// scales and zero points, equal to TFLite's reference kernels bit for bit. Which layer is which, and when the GEMM runs and when the lanes do,
// is as in conv2d.h.
#ifndef TFLITE_SMART_KERNELS_INT8_CONV2D_H_
#define TFLITE_SMART_KERNELS_INT8_CONV2D_H_

#include "kernels/conv2d.h"
#include "kernels/requantize.h"

namespace tflite_smart {

struct Int8Layer {
  const PackedWeight* weight;  // kInteger
  ConvGeometry geometry;
  Requantization requantization;
  int32_t x_zero_point;  // -128..127
  const int32_t* bias;   // out_channels, or null
  const int8_t* x;
  int8_t* y;
};

// The caller has checked that weight, geometry and buffers fit together.
Status RunInt8Conv2D(Runtime* runtime, const Int8Layer& layer);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_CONV2D_H_
