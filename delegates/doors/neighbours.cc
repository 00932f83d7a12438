#include "doors/neighbours.h"

#include <cstring>

namespace tflite_smart {
namespace {

constexpr int kAdd = 0, kLogistic = 14, kMul = 18, kPad = 34, kHardSwish = 117;  // builtin codes

// Which of the nodes writes a tensor, which reads it first, and how often it is read, from outside too. -1: none of them.
struct Users {
  int producer = -1, consumer = -1, reads = 0;
};

class Graph {
 public:
  Graph(const tfl::Context& context, const std::vector<GraphNode>& nodes, const tfl::IntArray& visible) : nodes_(nodes), users_(context.tensors_size) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      const tfl::Node& node = *nodes[i].node;
      for (int j = 0; node.outputs != nullptr && j < node.outputs->size; ++j) {
        if (Known(node.outputs->data[j])) users_[static_cast<size_t>(node.outputs->data[j])].producer = static_cast<int>(i);
      }
      for (int j = 0; node.inputs != nullptr && j < node.inputs->size; ++j) {
        if (!Known(node.inputs->data[j])) continue;
        Users& users = users_[static_cast<size_t>(node.inputs->data[j])];
        if (users.reads++ == 0) users.consumer = static_cast<int>(i);
      }
    }
    for (int i = 0; i < visible.size; ++i) users_[static_cast<size_t>(visible.data[i])].reads += 2;  // more than anything here can take
  }

  Users of(int tensor) const { return Known(tensor) ? users_[static_cast<size_t>(tensor)] : Users(); }
  const GraphNode& node(int i) const { return nodes_[static_cast<size_t>(i)]; }

 private:
  bool Known(int tensor) const { return tensor >= 0 && static_cast<size_t>(tensor) < users_.size(); }

  const std::vector<GraphNode>& nodes_;
  std::vector<Users> users_;
};

bool IsConvolution(const GraphNode& node) { return node.IsOurs("Conv2D") || node.IsOurs("DepthwiseConv2D"); }

bool SameShape(const tfl::Tensor& a, const tfl::Tensor& b) {
  return a.type == tfl::kFloat32 && b.type == tfl::kFloat32 && a.dims != nullptr && b.dims != nullptr && a.dims->size == b.dims->size &&
         std::memcmp(a.dims->data, b.dims->data, sizeof(int) * static_cast<size_t>(a.dims->size)) == 0;
}

// The zeros that a PAD puts around an NHWC image. False if it does anything else.
bool ReadPad(tfl::Context* context, const GraphNode& pad, Padding* padding) {
  if (!pad.Is(kPad, 2)) return false;
  const tfl::Tensor& x = context->tensors[pad.node->inputs->data[0]];
  const tfl::Tensor& sizes = context->tensors[pad.node->inputs->data[1]];
  if (x.type != tfl::kFloat32 || sizes.type != tfl::kInt32 || sizes.allocation_type != tfl::kMmapRo || sizes.bytes != 8 * sizeof(int32_t)) return false;
  const int32_t* s = sizes.data.i32;
  *padding = {false, s[2], s[3], s[4], s[5]};
  return s[0] == 0 && s[1] == 0 && s[6] == 0 && s[7] == 0;
}

// Whether `conv` can do without the PAD in front of it: see Padding for the limits.
bool TakesPad(const GraphNode& conv, const Padding& padding) {
  Options options;
  const char* const kValid[] = {"VALID", nullptr};
  int any;
  int32_t height, width;
  if (!options.Parse(conv.node->custom_initial_data, conv.node->custom_initial_data_size).ok() || !options.Choice("padding", kValid, &any).ok() ||
      !options.Int("filter_h", 1, INT32_MAX, 1, &height).ok() || !options.Int("filter_w", 1, INT32_MAX, 1, &width).ok()) {
    return false;
  }
  const auto fits = [](int32_t zeros, int32_t filter) { return zeros >= 0 && zeros < filter; };
  return fits(padding.top, height) && fits(padding.bottom, height) && fits(padding.left, width) && fits(padding.right, width);
}

// The fused activation of an ADD or a MUL. False if it is neither, or we have none like it.
bool ReadBinary(const GraphNode& binary, int code, Activation* activation) {
  if (!binary.Is(code, 2) || binary.node->builtin_data == nullptr) return false;
  int fused;
  std::memcpy(&fused, binary.node->builtin_data, sizeof(fused));
  constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kReluN1To1, Activation::kRelu6};
  if (fused < 0 || fused > 3) return false;
  *activation = kActivations[fused];
  return true;
}

// The claim with the PAD in front of it, if it can have that.
Claim WithPad(tfl::Context* context, const Graph& graph, const GraphNode& conv, Claim claim) {
  const Users x = graph.of(conv.input(0));
  Padding padding;
  if (x.producer < 0 || x.reads != 1 || !ReadPad(context, graph.node(x.producer), &padding) || !TakesPad(conv, padding)) return claim;
  claim.pad = x.producer;
  return claim;
}

// The claim with what comes behind it: y -> ADD or HARD_SWISH, or y -> LOGISTIC -> MUL <- y.
Claim WithAfter(tfl::Context* context, const Graph& graph, int y, const Claim& claim) {
  const Users users = graph.of(y);
  Activation activation;
  if (users.consumer < 0 || context->tensors[y].type != tfl::kFloat32) return claim;
  const GraphNode& first = graph.node(users.consumer);
  Claim with = claim;
  with.after = users.consumer;
  if (ReadBinary(first, kAdd, &activation)) {
    const int other = first.input(0) == y ? first.input(1) : first.input(0);
    return users.reads == 1 && SameShape(context->tensors[y], context->tensors[other]) ? with : claim;
  }
  if (first.Is(kHardSwish, 1)) return users.reads == 1 ? with : claim;
  if (!first.Is(kLogistic, 1)) return claim;
  const Users logistic = graph.of(first.output());
  if (users.reads != 2 || logistic.reads != 1 || logistic.consumer < 0) return claim;
  const GraphNode& mul = graph.node(logistic.consumer);
  if (!ReadBinary(mul, kMul, &activation) || activation != Activation::kNone || (mul.input(0) != y && mul.input(1) != y)) return claim;
  with.logistic = users.consumer;
  with.after = logistic.consumer;
  return with;
}

}  // namespace

std::vector<Claim> FindNeighbours(tfl::Context* context, const std::vector<GraphNode>& nodes, const tfl::IntArray& visible) {
  const Graph graph(*context, nodes, visible);
  std::vector<Claim> claims;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const GraphNode& node = nodes[i];
    if (!IsConvolution(node) || node.node->inputs == nullptr || node.node->inputs->size < 1 || node.node->outputs == nullptr ||
        node.node->outputs->size != 1) {
      continue;
    }
    const Claim alone = WithPad(context, graph, node, {static_cast<int>(i)});
    const Claim with = WithAfter(context, graph, node.output(), alone);
    bool taken = false;  // by the other of two convolutions that are added
    for (const Claim& c : claims) taken |= with.after >= 0 && c.after == with.after;
    claims.push_back(taken ? alone : with);
  }
  return claims;
}

void AbsorbNeighbours(tfl::Context* context, const std::vector<GraphNode>& nodes, const Claim& claim, Op* op) {
  const auto node = [&](int i) -> const GraphNode& { return nodes[static_cast<size_t>(i)]; };
  Padding padding;
  Activation activation;
  if (claim.pad >= 0 && ReadPad(context, node(claim.pad), &padding)) op->AbsorbPad(node(claim.pad).input(0), padding);
  if (claim.after < 0) return;
  if (claim.logistic >= 0) {
    op->AbsorbCurve(node(claim.after).output(), Curve::kSwish);
  } else if (ReadBinary(node(claim.after), kAdd, &activation)) {
    op->AbsorbAdd(*node(claim.after).node, activation);
  } else {
    op->AbsorbCurve(node(claim.after).output(), Curve::kHardSwish);
  }
}

}  // namespace tflite_smart
