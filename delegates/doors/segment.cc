#include "doors/segment.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "doors/glue_ops.h"

namespace tflite_smart {
namespace {

tfl::Status SetTemporaries(tfl::Node* node, int tensor) {
  auto* list = static_cast<tfl::IntArray*>(std::malloc(sizeof(tfl::IntArray)));  // malloc, because the runtime frees it
  if (list == nullptr) return tfl::kError;
  *list = {1, {tensor}};
  std::free(node->temporaries);
  node->temporaries = list;
  return tfl::kOk;
}

// The whole pages of that size in `memory`.
void Advise(char* memory, size_t bytes, uintptr_t page, int advice) {
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page, end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

// Memory that nobody has touched yet is mapped page by page when it is, which is a good part of the first inference. Where the system likes to be asked
// for large pages, there are far fewer of them; and it can map all at once. Hints: they may fail.
void PrepareMemory(char* memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  Advise(memory, bytes, 2 << 20, MADV_HUGEPAGE);
#endif
#if defined(MADV_POPULATE_WRITE)
  Advise(memory, bytes, 1 << 12, MADV_POPULATE_WRITE);
#endif
}

// False if it is no float32 image, not one alone, or of a size that inference may change.
bool ReadImage(const tfl::Tensor& tensor, Bands::Image* image) {
  Shape shape;
  if (tensor.allocation_type == tfl::kDynamic || !ReadShape(&tensor, tfl::kFloat32, "", &shape).ok() || shape.rank != 4) return false;
  *image = {shape.dims[1], shape.dims[2], static_cast<int64_t>(shape.dims[2]) * shape.dims[3]};
  return shape.dims[0] == 1 && shape.elements() > 0;
}

Status CheckImageMemory(const tfl::Tensor& tensor, const char* what) {
  Shape shape;
  TFS_RETURN_IF_ERROR(ReadShape(&tensor, tfl::kFloat32, what, &shape));
  return CheckMemory(&tensor, shape, what);
}

}  // namespace

tfl::Status Segment::AddStep(tfl::Context* context, const GraphNode& node, Runtime* runtime) {
  Kernel step;
  const char* name = node.IsOurs() ? node.registration->custom_name : GlueName(node);
  step.op = node.IsOurs() ? MakeOp(name) : MakeGlueOp(node);
  if (name == nullptr || step.op == nullptr) return tfl::kError;
  step.op_name = name;
  step.weight_name = WeightName(*context, *node.node);
  const tfl::Status status = Report(context, step, step.op->Init(context, *node.node, runtime));
  steps_.push_back(std::move(step));
  return status;
}

tfl::Status Segment::Init(tfl::Context* context, const tfl::DelegateParams& params, Runtime* runtime) {
  std::vector<GraphNode> nodes(static_cast<size_t>(params.nodes_to_replace->size));
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!nodes[i].Read(context, params.nodes_to_replace->data[i])) return tfl::kError;
  }
  visible_.assign(params.output_tensors->data, params.output_tensors->data + params.output_tensors->size);
  const std::vector<Claim> claims = FindNeighbours(context, nodes, *params.output_tensors);
  for (int i = 0; i < static_cast<int>(nodes.size()); ++i) {
    const Claim* claim = nullptr;
    for (const Claim& c : claims) {
      if (c.node == i || c.pad == i || c.logistic == i || c.after == i) claim = &c;
    }
    if (claim != nullptr && i != (claim->after >= 0 ? claim->after : claim->node)) continue;
    if (AddStep(context, nodes[static_cast<size_t>(claim == nullptr ? i : claim->node)], runtime) != tfl::kOk) return tfl::kError;
    if (claim != nullptr) AbsorbNeighbours(context, nodes, *claim, steps_.back().op.get());
  }
  return tfl::kOk;
}

bool Segment::IsVisible(int tensor) const {
  for (const int other : visible_) {
    if (other == tensor) return true;
  }
  return false;
}

int Segment::LastChainWith(int tensor) const {
  for (size_t i = chains_.size(); i-- > 0;) {
    for (size_t step = chains_[i].first; step < chains_[i].end; ++step) {
      const Op& op = *steps_[step].op;
      if (op.output() == tensor) return static_cast<int>(i);
      for (const int input : op.inputs()) {
        if (input == tensor) return static_cast<int>(i);
      }
    }
  }
  return -1;
}

// Whether the output of the step before is a large tensor that nobody but this step's first input sees.
bool Segment::IsBetween(const tfl::Context& context, size_t step) const {
  const int y = steps_[step - 1].op->output();
  const tfl::Tensor& tensor = context.tensors[y];
  if (IsVisible(y) || tensor.allocation_type != tfl::kArenaRw || tensor.bytes < limits_.tensor_bytes || steps_[step].op->inputs()[0] != y) return false;
  int reads = 0;
  for (const Kernel& other : steps_) {
    for (const int input : other.op->inputs()) reads += input == y ? 1 : 0;
  }
  return reads == 1;
}

Segment::Chain Segment::ChainFrom(tfl::Context* context, size_t first) const {
  const Op& op = *steps_[first].op;
  Bands::Image image;
  if (!ReadImage(context->tensors[op.inputs()[0]], &image)) return {first, first + 1, nullptr};
  auto bands = std::make_unique<Bands>(image);
  size_t end = first;
  for (LineWindow window; end < steps_.size(); ++end) {
    Op* const next = steps_[end].op.get();
    if (end > first && !IsBetween(*context, end)) break;
    if (!next->ReadLineWindow(context, &window) || !ReadImage(context->tensors[next->output()], &image)) break;
    bands->Add(window, image);
  }
  if (end < first + 2 || !bands->Plan(limits_)) return {first, first + 1, nullptr};
  return {first, end, std::move(bands)};
}

// The block of a step's output: that of an input which nobody needs any more, or whose numbers it shares, or a new one.
size_t Segment::BlockOf(size_t step, int time, size_t bytes, std::vector<Block>* blocks) const {
  const Op& op = *steps_[step].op;
  const int last = LastChainWith(op.output());
  const int shared = op.InPlaceInput() < 0 ? tfl::kOptionalTensor : op.inputs()[static_cast<size_t>(op.InPlaceInput())];
  for (const Inner& inner : inner_) {
    Block& block = (*blocks)[inner.block];
    if (inner.tensor != shared || block.bytes != bytes || (block.last != time && !op.is_view())) continue;
    block.last = std::max(block.last, last);
    return inner.block;
  }
  blocks->push_back({bytes, time, last, 0});
  return blocks->size() - 1;
}

// Returns the bytes of the workspace.
size_t Segment::Plan(tfl::Context* context) {
  inner_.clear();
  blocks_.clear();
  chains_.clear();
  for (size_t i = 0; i < steps_.size(); i = chains_.back().end) chains_.push_back(ChainFrom(context, i));
  for (size_t time = 0; time < chains_.size(); ++time) {
    const Chain& chain = chains_[time];
    for (size_t i = chain.first; i < chain.end; ++i) {
      const int y = steps_[i].op->output();
      const tfl::Tensor& tensor = context->tensors[y];
      // A tensor of another kind has memory of its own.
      if (IsVisible(y) || tensor.allocation_type != tfl::kArenaRw) continue;
      bool known = false;  // a damaged model may write a tensor twice
      for (const Inner& inner : inner_) known |= inner.tensor == y;
      const size_t bytes = i + 1 == chain.end ? tensor.bytes : chain.bands->bytes(i + 1 - chain.first);
      if (!known) inner_.push_back({y, BlockOf(i, static_cast<int>(time), bytes, &blocks_)});
    }
  }
  return PlanMemory(&blocks_);
}

tfl::Status Segment::ResizeWorkspace(tfl::Context* context, tfl::Node* node, size_t bytes) {
  if (bytes == 0 && workspace_ < 0) return tfl::kOk;
  if (workspace_ < 0) {
    if (context->AddTensors(context, 1, &workspace_) != tfl::kOk || SetTemporaries(node, workspace_) != tfl::kOk) return tfl::kError;
    tfl::Tensor& tensor = context->tensors[workspace_];
    tensor.type = tfl::kUInt8;
    tensor.allocation_type = tfl::kArenaRw;
    tensor.name = "TFLiteSmart workspace";
  }
  Shape shape;  // in blocks, whose number fits an int
  shape.rank = 2;
  shape.dims[0] = static_cast<int32_t>((bytes + kBlockAlignment - 1) / kBlockAlignment);
  shape.dims[1] = static_cast<int32_t>(kBlockAlignment);
  return Resize(context, &context->tensors[workspace_], shape).ok() ? tfl::kOk : tfl::kError;
}

tfl::Status Segment::Prepare(tfl::Context* context, tfl::Node* node) {
  for (const Kernel& step : steps_) {
    if (Report(context, step, step.op->Prepare(context)) != tfl::kOk) return tfl::kError;
  }
  return ResizeWorkspace(context, node, Plan(context));
}

tfl::Status Segment::RunBands(tfl::Context* context, const Chain& chain) const {
  Bands& bands = *chain.bands;
  const Kernel &first = steps_[chain.first], &last = steps_[chain.end - 1];
  const tfl::Tensor& input = context->tensors[first.op->inputs()[0]];
  if (Report(context, first, CheckImageMemory(input, "input")) != tfl::kOk) return tfl::kError;
  if (Report(context, last, CheckImageMemory(context->tensors[last.op->output()], "output")) != tfl::kOk) return tfl::kError;
  bands.Place(0, input.data.f);
  for (size_t i = chain.first; i < chain.end; ++i) bands.Place(i + 1 - chain.first, context->tensors[steps_[i].op->output()].data.f);
  while (bands.Turn()) {
    for (size_t i = chain.first; i < chain.end; ++i) {
      Lines x, y;
      if (!bands.Advance(i - chain.first, &x, &y)) continue;
      if (Report(context, steps_[i], steps_[i].op->RunLines(context, x, y)) != tfl::kOk) return tfl::kError;
    }
  }
  return tfl::kOk;
}

tfl::Status Segment::Invoke(tfl::Context* context) {
  char* const memory = workspace_ < 0 ? nullptr : static_cast<char*>(context->tensors[workspace_].data.raw);
  for (const Inner& inner : inner_) {
    context->tensors[inner.tensor].data.raw = memory == nullptr ? nullptr : memory + blocks_[inner.block].offset;
  }
  if (memory != nullptr && memory != advised_) PrepareMemory(memory, context->tensors[workspace_].bytes);
  advised_ = memory;
  tfl::Status status = tfl::kOk;
  for (const Chain& chain : chains_) {
    const Kernel& step = steps_[chain.first];
    status = chain.bands == nullptr ? Report(context, step, step.op->Run(context)) : RunBands(context, chain);
    if (status != tfl::kOk) break;
  }
  for (const Inner& inner : inner_) context->tensors[inner.tensor].data.raw = nullptr;
  return status;
}

}  // namespace tflite_smart
