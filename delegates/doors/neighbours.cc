#include "doors/neighbours.h"

#include <cstring>

namespace tflite_smart {
namespace {

constexpr int kAdd = 0, kLogistic = 14, kMul = 18, kPad = 34, kHardSwish = 117;  // builtin codes

struct GraphNode {
  tfl::Node* node = nullptr;
  tfl::Registration* registration = nullptr;

  bool Read(tfl::Context* context, int index) { return context->GetNodeAndRegistration(context, index, &node, &registration) == tfl::kOk; }
  bool Is(int code, int inputs) const {
    return registration->builtin_code == code && node->inputs != nullptr && node->inputs->size == inputs && node->outputs != nullptr &&
           node->outputs->size == 1;
  }
  int output() const { return node->outputs->data[0]; }
};

// Who writes a tensor, who reads it first, and how often it is read. -1: nobody.
struct Users {
  int producer = -1, consumer = -1, reads = 0;
};

class Graph {
 public:
  explicit Graph(size_t tensors) : users_(tensors) {}

  void Add(int index, const tfl::Node& node) {
    for (int i = 0; node.outputs != nullptr && i < node.outputs->size; ++i) {
      if (Known(node.outputs->data[i])) users_[static_cast<size_t>(node.outputs->data[i])].producer = index;
    }
    for (int i = 0; node.inputs != nullptr && i < node.inputs->size; ++i) {
      if (!Known(node.inputs->data[i])) continue;
      Users& users = users_[static_cast<size_t>(node.inputs->data[i])];
      if (users.reads++ == 0) users.consumer = index;
    }
  }

  Users of(int tensor) const { return Known(tensor) ? users_[static_cast<size_t>(tensor)] : Users(); }

 private:
  bool Known(int tensor) const { return tensor >= 0 && static_cast<size_t>(tensor) < users_.size(); }

  std::vector<Users> users_;
};

bool IsConvolution(const char* name) {
  return name != nullptr && (std::strcmp(name, "TFLiteSmart.Conv2D") == 0 || std::strcmp(name, "TFLiteSmart.DepthwiseConv2D") == 0);
}

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
      !options.Int("filter_h", 1, INT32_MAX, &height).ok() || !options.Int("filter_w", 1, INT32_MAX, &width).ok()) {
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

// Whether a claim's nodes would become one node with one output.
bool IsOnePartition(tfl::Context* context, const Claim& claim) {
  const NodeList nodes(claim);
  tfl::DelegateParams* partitions = nullptr;
  int count = 0;
  return context->PreviewDelegatePartitioning(context, nodes.get(), &partitions, &count) == tfl::kOk && count == 1 &&
         partitions[0].output_tensors->size == 1;
}

// The claim with the PAD in front of it, if it can have that.
Claim WithPad(tfl::Context* context, const Graph& graph, const GraphNode& conv, Claim claim) {
  const Users x = graph.of(conv.node->inputs->data[0]);
  GraphNode pad;
  Padding padding;
  if (x.producer < 0 || x.reads != 1 || !pad.Read(context, x.producer) || !ReadPad(context, pad, &padding) || !TakesPad(conv, padding)) return claim;
  Claim with = claim;
  with.pad = x.producer;
  return IsOnePartition(context, with) ? with : claim;
}

// The claim with what comes behind it: y -> ADD or HARD_SWISH, or y -> LOGISTIC -> MUL <- y.
Claim WithAfter(tfl::Context* context, const Graph& graph, int y, const Claim& claim) {
  const Users users = graph.of(y);
  GraphNode first, mul;
  Activation activation;
  if (users.consumer < 0 || !first.Read(context, users.consumer) || first.node->outputs == nullptr || first.node->outputs->size != 1) return claim;
  Claim with = claim;
  with.after = users.consumer;
  if (ReadBinary(first, kAdd, &activation)) {
    const int* inputs = first.node->inputs->data;
    const int other = inputs[0] == y ? inputs[1] : inputs[0];
    if (users.reads != 1 || !SameShape(context->tensors[y], context->tensors[other])) return claim;
  } else if (first.Is(kLogistic, 1)) {
    const Users logistic = graph.of(first.output());
    if (users.reads != 2 || logistic.reads != 1 || !mul.Read(context, logistic.consumer) || !ReadBinary(mul, kMul, &activation) ||
        activation != Activation::kNone || (mul.node->inputs->data[0] != y && mul.node->inputs->data[1] != y)) {
      return claim;
    }
    with.logistic = users.consumer;
    with.after = logistic.consumer;
  } else if (!first.Is(kHardSwish, 1) || users.reads != 1) {
    return claim;
  }
  return context->tensors[y].type == tfl::kFloat32 && IsOnePartition(context, with) ? with : claim;
}

}  // namespace

tfl::Status FindNeighbours(tfl::Context* context, std::vector<Claim>* claims) {
  tfl::IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != tfl::kOk || plan == nullptr) return tfl::kError;
  const std::vector<int> order(plan->data, plan->data + plan->size);  // a preview may move the plan
  Graph graph(context->tensors_size);
  GraphNode node;
  for (const int index : order) {
    if (!node.Read(context, index)) return tfl::kError;
    graph.Add(index, *node.node);
  }
  for (Claim& claim : *claims) {
    if (!node.Read(context, claim.node)) return tfl::kError;
    if (!IsConvolution(node.registration->custom_name) || node.node->inputs->size < 1 || node.node->outputs->size != 1) continue;
    claim = WithPad(context, graph, node, claim);
    const Claim with = WithAfter(context, graph, node.output(), claim);
    bool taken = false;  // by the other of two convolutions that are added
    for (const Claim& c : *claims) taken |= with.after >= 0 && c.after == with.after;
    if (!taken) claim = with;
  }
  return tfl::kOk;
}

Status AbsorbNeighbours(tfl::Context* context, const tfl::IntArray& nodes, Op* op) {
  for (int i = 0; i < nodes.size; ++i) {
    GraphNode node;
    Padding padding;
    Activation activation;
    if (!node.Read(context, nodes.data[i])) return MakeError(Code::kInvalidArgument, "partition: its nodes must exist. Received: node=%d.", nodes.data[i]);
    if (ReadPad(context, node, &padding)) {
      op->AbsorbPad(node.node->inputs->data[0], padding);
    } else if (ReadBinary(node, kAdd, &activation)) {
      op->AbsorbAdd(*node.node, activation);
    } else if (node.Is(kHardSwish, 1)) {
      op->AbsorbCurve(node.output(), Curve::kHardSwish);
    } else if (node.Is(kMul, 2)) {
      op->AbsorbCurve(node.output(), Curve::kSwish);
    }
  }
  return Status();
}

}  // namespace tflite_smart
