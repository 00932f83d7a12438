#include "doors/neighbours.h"

#include <cstring>

namespace tflite_smart {
namespace {

constexpr int kAdd = 0, kPad = 34;  // builtin codes

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

// Who writes and who reads every tensor; -1: nobody, kMany: more than one.
struct Users {
  static constexpr int kMany = -2;
  std::vector<int> producer, consumer;

  explicit Users(size_t tensors) : producer(tensors, -1), consumer(tensors, -1) {}

  void Add(int index, const tfl::Node& node) {
    for (int i = 0; node.outputs != nullptr && i < node.outputs->size; ++i) Set(node.outputs->data[i], index, &producer);
    for (int i = 0; node.inputs != nullptr && i < node.inputs->size; ++i) Set(node.inputs->data[i], index, &consumer);
  }

 private:
  static void Set(int tensor, int index, std::vector<int>* users) {
    if (tensor < 0 || static_cast<size_t>(tensor) >= users->size()) return;
    int& user = (*users)[static_cast<size_t>(tensor)];
    user = user == -1 ? index : kMany;
  }
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

// The activation of an ADD. False if we have none like it.
bool ReadAdd(const GraphNode& add, Activation* activation) {
  if (!add.Is(kAdd, 2) || add.node->builtin_data == nullptr) return false;
  int fused;
  std::memcpy(&fused, add.node->builtin_data, sizeof(fused));
  constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kReluN1To1, Activation::kRelu6};
  if (fused < 0 || fused > 3) return false;
  *activation = kActivations[fused];
  return true;
}

// Whether the nodes would become one node with one output.
bool IsOnePartition(tfl::Context* context, const NodeList& nodes) {
  tfl::DelegateParams* partitions = nullptr;
  int count = 0;
  return context->PreviewDelegatePartitioning(context, nodes.get(), &partitions, &count) == tfl::kOk && count == 1 &&
         partitions[0].output_tensors->size == 1;
}

}  // namespace

tfl::Status FindNeighbours(tfl::Context* context, std::vector<Claim>* claims) {
  tfl::IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != tfl::kOk || plan == nullptr) return tfl::kError;
  const std::vector<int> order(plan->data, plan->data + plan->size);  // a preview may move the plan
  Users users(context->tensors_size);
  GraphNode any;
  for (const int index : order) {
    if (!any.Read(context, index)) return tfl::kError;
    users.Add(index, *any.node);
  }
  for (Claim& claim : *claims) {
    GraphNode conv, pad, add;
    if (!conv.Read(context, claim.node)) return tfl::kError;
    if (!IsConvolution(conv.registration->custom_name) || conv.node->inputs->size < 1 || conv.node->outputs->size != 1) continue;
    const int x = conv.node->inputs->data[0], y = conv.output();
    const int before = users.producer[static_cast<size_t>(x)], after = users.consumer[static_cast<size_t>(y)];
    Padding padding;
    if (before >= 0 && users.consumer[static_cast<size_t>(x)] == claim.node && pad.Read(context, before) && ReadPad(context, pad, &padding) &&
        TakesPad(conv, padding) && IsOnePartition(context, {before, claim.node, -1})) {
      claim.pad = before;
    }
    Activation activation;
    if (after < 0 || !add.Read(context, after) || !ReadAdd(add, &activation)) continue;
    const int* inputs = add.node->inputs->data;
    const tfl::Tensor& other = context->tensors[inputs[0] == y ? inputs[1] : inputs[0]];
    bool taken = false;  // by the other of two convolutions
    for (const Claim& c : *claims) taken |= c.add == after;
    if (!taken && inputs[0] != inputs[1] && SameShape(context->tensors[y], other) && IsOnePartition(context, {claim.pad, claim.node, after})) {
      claim.add = after;
    }
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
    } else if (ReadAdd(node, &activation)) {
      op->AbsorbAdd(*node.node, activation);
    }
  }
  return Status();
}

}  // namespace tflite_smart
