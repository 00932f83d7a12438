// What Node::builtin_data points to, for the builtin operators that glue_ops.cc knows: TFLite's structures under names of our own, declared up to
// the last member that we read. As those of tflite_abi.h they only ever grow at the end.
#ifndef TFLITE_SMART_DOORS_BUILTIN_PARAMS_H_
#define TFLITE_SMART_DOORS_BUILTIN_PARAMS_H_

#include "doors/tflite_abi.h"
#include "kernels/glue.h"

namespace tflite_smart {
namespace tfl {

enum BuiltinCode : int {
  kAdd = 0, kAveragePool2D = 1, kConcatenation = 2, kConv2D = 3, kDepthwiseConv2D = 4, kLogistic = 14, kMaxPool2D = 17, kMul = 18, kRelu = 19,
  kReluN1To1 = 20, kRelu6 = 21, kReshape = 22, kSoftmax = 25, kPad = 34, kTranspose = 39, kMean = 40, kSub = 41, kNeg = 59, kRsqrt = 76, kSquaredDifference = 99, kHardSwish = 117, kBatchMatMul = 126, kGelu = 150
};

enum Fused : int { kFusedNone = 0, kFusedRelu = 1, kFusedReluN1To1 = 2, kFusedRelu6 = 3 };
enum PaddingKind : int { kPaddingSame = 1, kPaddingValid = 2 };

struct BinaryParams {  // of ADD, SUB and MUL
  Fused activation;
};

struct BatchMatMulParams {
  bool adjoint_x, adjoint_y;
};

struct ConcatenationParams {
  int axis;
  Fused activation;
};

struct Conv2DParams {
  PaddingKind padding;
  int stride_width, stride_height;
  Fused activation;
  int dilation_width, dilation_height;
};

struct DepthwiseConv2DParams {
  PaddingKind padding;
  int stride_width, stride_height;
  int depth_multiplier;
  Fused activation;
  int dilation_width, dilation_height;
};

struct GeluParams {
  bool approximate;
};

struct PoolParams {
  PaddingKind padding;
  int stride_width, stride_height, filter_width, filter_height;
  Fused activation;
};

struct ReducerParams {
  bool keep_dims;
};

struct SoftmaxParams {
  float beta;
};

}  // namespace tfl

template <typename T>
const T& Params(const tfl::Node& node) {
  return *static_cast<const T*>(node.builtin_data);
}

// False for an activation that is more than two limits.
inline bool ReadFused(tfl::Fused fused, Activation* activation) {
  constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kReluN1To1, Activation::kRelu6};
  if (fused < tfl::kFusedNone || fused > tfl::kFusedRelu6) return false;
  *activation = kActivations[fused];
  return true;
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_BUILTIN_PARAMS_H_
