// What stands between the layers of a float network: sums, products, curves, pools. One function each, on arrays whose shapes the caller has
// checked; the inner loops are in float_glue-inl.h and float_curves-inl.h.
#ifndef TFLITE_SMART_KERNELS_GLUE_H_
#define TFLITE_SMART_KERNELS_GLUE_H_

#include "core/runtime.h"
#include "kernels/float_kernels.h"

namespace tflite_smart {

struct ConvGeometry;

enum class Activation { kNone, kRelu, kReluN1To1, kRelu6 };

struct Limits {
  float min, max;
};
Limits LimitsOf(Activation activation);

// y = activation(a op b), with broadcasting: strides in floats, 0 where one element serves all of an axis. y is dense.
struct BinaryOperands {
  static constexpr int kMaxAxes = 8;
  int axes;
  int64_t sizes[kMaxAxes], a_strides[kMaxAxes], b_strides[kMaxAxes];
  const float* a;
  const float* b;
  float* y;
};
Status RunBinary(Runtime* runtime, Binary binary, BinaryOperands operands, Activation activation);

// y = a, of which the axes lie in any order: b's strides do not count.
Status RunTranspose(Runtime* runtime, BinaryOperands operands);

// y[i] = activation(y[i] + x[i]), as TFLite's ADD.
Status AddTo(Runtime* runtime, const float* x, int64_t count, Activation activation, float* y);

// y[i] = curve(x[i]). y may be x.
enum class Curve { kNone, kLogistic, kSwish, kHardSwish, kGelu };
Status RunCurve(Runtime* runtime, Curve curve, const float* x, int64_t count, float* y);

// y[i] = 1 / sqrt(x[i]). y may be x.
Status RunRsqrt(Runtime* runtime, const float* x, int64_t count, float* y);

// x[outer][reduced][inner] -> y[outer][inner].
struct MeanShape {
  int64_t outer, reduced, inner;
};
Status RunMean(Runtime* runtime, const MeanShape& shape, const float* x, float* y);

// The window is the geometry's filter; what lies outside of the image does not count.
enum class Pool { kAverage, kMax };
Status RunPool(Runtime* runtime, Pool pool, const ConvGeometry& geometry, Activation activation, const float* x, float* y);

// Over each row of `count`.
Status RunSoftmax(Runtime* runtime, int64_t rows, int64_t count, float beta, const float* x, float* y);

// out[row * out_stride + i] = in[row * in_stride + i] for i < count: strides and count in floats.
struct RowCopy {
  const float* in;
  float* out;
  int64_t in_stride, out_stride, count;
};
Status CopyRows(Runtime* runtime, int64_t rows, const RowCopy& copy);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_GLUE_H_
