#include "doors/glue_ops.h"

#include <new>

#include "doors/glue_arithmetic.h"
#include "doors/glue_matmul.h"
#include "doors/glue_moves.h"
#include "doors/plain_ops.h"

namespace tflite_smart {
namespace {

struct GlueKind {
  int code;
  const char* name;
  bool has_params;
  bool (*supports)(const tfl::Context& context, const tfl::Node& node);
  Op* (*make)(int variant);
  int variant;
};

// An op, and one of those that know several operators.
template <class T>
constexpr GlueKind Kind(int code, const char* name, bool has_params) {
  return {code, name, has_params, T::Supports, [](int) -> Op* { return new (std::nothrow) T; }, 0};
}

template <class T, typename Variant>
constexpr GlueKind Kind(int code, const char* name, bool has_params, Variant variant) {
  return {code, name, has_params, T::Supports, [](int i) -> Op* { return new (std::nothrow) T(static_cast<Variant>(i)); }, static_cast<int>(variant)};
}

constexpr GlueKind kKinds[] = {
    Kind<BinaryOp>(tfl::kAdd, "ADD", true, Binary::kAdd),
    Kind<BinaryOp>(tfl::kMul, "MUL", true, Binary::kMul),
    Kind<BinaryOp>(tfl::kSub, "SUB", true, Binary::kSub),
    Kind<CurveOp>(tfl::kHardSwish, "HARD_SWISH", false, Curve::kHardSwish),
    Kind<CurveOp>(tfl::kLogistic, "LOGISTIC", false, Curve::kLogistic),
    Kind<GeluOp>(tfl::kGelu, "GELU", true),
    Kind<ClampOp>(tfl::kRelu, "RELU", false, Activation::kRelu),
    Kind<ClampOp>(tfl::kReluN1To1, "RELU_N1_TO_1", false, Activation::kReluN1To1),
    Kind<ClampOp>(tfl::kRelu6, "RELU6", false, Activation::kRelu6),
    Kind<SoftmaxOp>(tfl::kSoftmax, "SOFTMAX", true),
    Kind<MeanOp>(tfl::kMean, "MEAN", true),
    Kind<PoolOp>(tfl::kAveragePool2D, "AVERAGE_POOL_2D", true, Pool::kAverage),
    Kind<PoolOp>(tfl::kMaxPool2D, "MAX_POOL_2D", true, Pool::kMax),
    Kind<NegOp>(tfl::kNeg, "NEG", false),
    Kind<RsqrtOp>(tfl::kRsqrt, "RSQRT", false),
    Kind<SquaredDifferenceOp>(tfl::kSquaredDifference, "SQUARED_DIFFERENCE", false),
    Kind<BatchMatMulOp>(tfl::kBatchMatMul, "BATCH_MATMUL", true),
    Kind<TransposeOp>(tfl::kTranspose, "TRANSPOSE", false),
    Kind<ReshapeOp>(tfl::kReshape, "RESHAPE", false),
    Kind<ConcatenationOp>(tfl::kConcatenation, "CONCATENATION", true),
    Kind<PadOp>(tfl::kPad, "PAD", false),
    {tfl::kConv2D, "CONV_2D", true, IsPlainConv2D, MakePlainConv2D, tfl::kConv2D},
    {tfl::kDepthwiseConv2D, "DEPTHWISE_CONV_2D", true, IsPlainDepthwiseConv2D, MakePlainConv2D, tfl::kDepthwiseConv2D},
};

const GlueKind* FindKind(const GraphNode& node) {
  for (const GlueKind& kind : kKinds) {
    if (kind.code == node.registration->builtin_code) return &kind;
  }
  return nullptr;
}

bool IsFloat(const tfl::Context& context, int tensor) {
  return tensor >= 0 && static_cast<size_t>(tensor) < context.tensors_size && context.tensors[tensor].type == tfl::kFloat32;
}

}  // namespace

bool IsGlue(const tfl::Context& context, const GraphNode& node) {
  const GlueKind* kind = FindKind(node);
  const tfl::Node& n = *node.node;
  if (kind == nullptr || (kind->has_params && n.builtin_data == nullptr) || n.inputs == nullptr || n.outputs == nullptr || n.inputs->size < 1 ||
      n.outputs->size != 1 || !IsFloat(context, n.outputs->data[0])) {
    return false;
  }
  for (int i = 0; i < n.inputs->size; ++i) {
    const int tensor = n.inputs->data[i];
    if (i >= 2 && tensor == tfl::kOptionalTensor) continue;
    if (tensor < 0 || static_cast<size_t>(tensor) >= context.tensors_size) return false;
    if (!IsFloat(context, tensor) && (i == 0 || context.tensors[tensor].type != tfl::kInt32)) return false;
  }
  return kind->supports(context, n);
}

std::unique_ptr<Op> MakeGlueOp(const GraphNode& node) {
  const GlueKind* kind = FindKind(node);
  return std::unique_ptr<Op>(kind == nullptr ? nullptr : kind->make(kind->variant));
}

const char* GlueName(const GraphNode& node) {
  const GlueKind* kind = FindKind(node);
  return kind == nullptr ? nullptr : kind->name;
}

}  // namespace tflite_smart
