// Products of matrices that are both activations.
#ifndef TFLITE_SMART_KERNELS_MATMUL_H_
#define TFLITE_SMART_KERNELS_MATMUL_H_

#include "core/runtime.h"

namespace tflite_smart {

// y[batch][rows][columns] = a[..][rows][depth] * b[..][depth][columns], or b[..][columns][depth] if transposed_b. Strides are in floats, those of the
// batch's axes, 0 where one matrix serves all of an axis.
struct MatMul {
  static constexpr int kMaxAxes = 8;
  int axes;
  int64_t sizes[kMaxAxes], a_strides[kMaxAxes], b_strides[kMaxAxes];
  int64_t rows, depth, columns;
  bool transposed_b;
  const float* a;
  const float* b;
  float* y;
};
Status RunMatMul(Runtime* runtime, const MatMul& matmul);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_MATMUL_H_
