// Target: a graph of several nodes, as segments (doors/segment.h). It grows node by node, each run alone by scalar code, so that the next one is made for the shapes in front of it.
// Then the same nodes run as segments: fused with their neighbours, where they read, in shared memory, in bands, on every instruction set; and again with x of another shape. Every instruction
// set must come to the same verdict, numbers must be those of the nodes alone, and no segment may hold more memory than its weights and a little for every node.
#include "doors/segment.h"

#include <set>

#include "doors/glue_ops.h"
#include "fuzz/compare.h"
#include "fuzz/node_maker.h"
#include "kernels/int8_conv2d.h"

namespace {

using namespace tflite_smart;
using namespace tflite_smart::fuzz;

constexpr int64_t kMaxElements = 1 << 16;  // of a tensor
constexpr double kMaxComparable = 1e4, kMaxFinite = 1e36;
constexpr long kBytesPerNode = 4096, kBytesPerTensor = 16, kBytesPerChannel = 24, kBytesPerPanel = 544;  // the last: PanelFactors

// Nodes begin..end-1 as one segment, or one foreign node.
class Part {
 public:
  Part(FakeRuntime* runtime, int begin, int end, const std::vector<int>& visible, Runtime* threads, const BandLimits& limits)
      : runtime_(*runtime), begin_(begin), end_(end), visible_(visible), segment_(limits) {
    if (foreign()) return;
    std::vector<int> nodes;
    for (int i = begin; i < end; ++i) nodes.push_back(i);
    const tfl::DelegateParams params = {nullptr, Ints(nodes), Ints({}), Ints(visible)};
    const AllocationWatch watch;
    good_ = segment_.Init(runtime_.context(), params, threads) == tfl::kOk;
    for (tfl::IntArray* ints : {params.nodes_to_replace, params.input_tensors, params.output_tensors}) std::free(ints);
  }
  ~Part() { std::free(node_.temporaries); }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  // With the shapes that the inputs have now.
  bool Run() {
    if (foreign()) return runtime_.Copy(runtime_.node(begin_).inputs->data[0], output(begin_));
    const AllocationWatch watch;
    if (!good_ || segment_.Prepare(runtime_.context(), &node_) != tfl::kOk) return false;
    for (int i = begin_; i < end_; ++i) {
      tfl::Tensor& y = runtime_.tensor(static_cast<size_t>(output(i)));
      const bool visible = std::find(visible_.begin(), visible_.end(), output(i)) != visible_.end();
      if (!visible && y.allocation_type == tfl::kArenaRw) y.data.raw = nullptr;  // the runtime has no memory for it
    }
    return segment_.Invoke(runtime_.context()) == tfl::kOk;
  }

 private:
  static tfl::IntArray* Ints(const std::vector<int>& values) { return FakeRuntime::MakeDims(values.data(), static_cast<int>(values.size())); }
  int output(int node) { return runtime_.node(node).outputs->data[0]; }
  bool foreign() { return runtime_.code(begin_) == kForeign; }

  FakeRuntime& runtime_;
  const int begin_, end_;
  const std::vector<int> visible_;
  Segment segment_;
  tfl::Node node_ = {};
  bool good_ = false;
};

// Of a run: the graph's outputs, as bytes.
struct Outcome {
  bool good = false;
  std::vector<std::vector<uint8_t>> outputs;
};

// Chains of the tiny images here run in bands, of a line or two.
constexpr BandLimits kTinyBands = {1, 256, 1};

// Kept from run to run, as their scratch is costly to make: the calling thread alone, and with a second one.
Runtime alone(1), shared(2);

class Graph {
 public:
  explicit Graph(Input* input) : threads_(input->Seldom(8) ? shared : alone), keeps_ids_(input->Choose(2)), limits_(input->Choose(2) ? kTinyBands : BandLimits()) {
    type_ = input->Seldom(8) ? tfl::kInt8 : tfl::kFloat32;
    wild_ = type_ == tfl::kFloat32 && input->Seldom(4);
    for (std::vector<int32_t>& shape : x_shapes_) shape = MakeShape(input);
    x_shapes_[1][3] = x_shapes_[0][3];
    OpenThreads();
    runtime_.AddTensor(type_, x_shapes_[0], tfl::kArenaRw);
    maker_.reset(new NodeMaker(input, &runtime_, type_));
    AddActivation(0, wild_ ? 1e30 : 8);
    x_ = *input;
    FillX();
    good_ = true;
    for (uint32_t more = 2 + input->Choose(8); more > 0 && good_ && !full_; --more) {
      const Proposal proposal = maker_->Next();
      Add(proposal, input->Choose(32));
    }
    FindOutputs();
    alone_[0] = Collect(good_);
    alone_[1] = Run(1, &parts_);
    parts_.clear();
  }

  // As segments: with the x that the nodes were claimed for, once more, and with the other.
  void CheckSegments(bool scalar) {
    for (size_t i = 0; i < first_shapes_.size(); ++i) runtime_.Reshape(activations_[i], first_shapes_[i]);
    OpenThreads();
    AllocationWatch::Reset();
    std::vector<std::unique_ptr<Part>> parts = MakeSegments();
    for (int i = 0; i < 3; ++i) {
      const Outcome outcome = Run(i / 2, &parts);
      if (scalar) segments_[i] = outcome;
      FUZZ_CHECK(outcome.good == segments_[i].good);
      // A sum with a residual of another shape, and a tensor that exists only in between and is too large, are the ends of some nodes alone or of some segments.
      if (i < 2) FUZZ_CHECK(outcome.good || !alone_[0].good);
      if (outcome.good && alone_[i / 2].good) Compare(outcome, alone_[i / 2]);
    }
    if (AllocationWatch::most_bytes() > MaxAllocated()) std::fprintf(stderr, "%ld bytes, at most %ld expected\n", AllocationWatch::most_bytes(), MaxAllocated());
    FUZZ_CHECK(AllocationWatch::most_bytes() <= MaxAllocated());
  }

 private:
  static std::vector<int32_t> MakeShape(Input* input) {
    const bool large = input->Seldom(16);
    const auto size = [&] { return static_cast<int32_t>(large ? 32 : 1 + input->Choose(9)); };
    const int32_t batch = large ? 1 : static_cast<int32_t>(input->Seldom(16) ? 0 : 1 + input->Choose(2)), height = size(), width = size();
    return {batch, height, width, static_cast<int32_t>(1 + input->Choose(large ? 33 : 40))};
  }

  void OpenThreads() {
    threads_.cache_bytes = keeps_ids_ ? UINT64_MAX : 0;
    ids_before_ = threads_.ids.UpTo(UINT64_MAX);
  }

  void AddActivation(int tensor, double bound) {
    activations_.push_back(tensor);
    first_shapes_.push_back(runtime_.shape(tensor));
    maker_->AddActivation(tensor, bound);
    bound_ = std::max(bound_, bound);
    int64_t elements = 1;
    for (const int32_t dim : first_shapes_.back()) {
      full_ |= dim > kMaxElements;  // also where another axis is 0
      if (!full_) elements *= dim;
      full_ |= elements > kMaxElements;
    }
  }

  // Where the delegate would claim the node: runs it.
  void Add(const Proposal& proposal, uint32_t odd) {
    if (proposal.inputs.empty()) return;
    constexpr tfl::AllocationType kOdd[] = {tfl::kDynamic, tfl::kArenaRwPersistent, tfl::kCustom};
    runtime_.AddTensor(type_, proposal.y_shape, odd >= 1 && odd <= 3 ? kOdd[odd - 1] : tfl::kArenaRw);
    const int y = static_cast<int>(runtime_.num_tensors()) - 1;
    const int node = runtime_.AddNode(proposal.code, proposal.name, proposal.inputs, y, proposal.settings);
    GraphNode seen;
    seen.Read(runtime_.context(), node);
    if (proposal.code != kForeign && !seen.IsOurs() && !IsGlue(*runtime_.context(), seen)) return runtime_.DropNode();
    if (odd == 4) extra_outputs_.insert(y);
    parts_.emplace_back(new Part(&runtime_, node, node + 1, {y}, &threads_, limits_));
    good_ = parts_.back()->Run();
    coarse_ |= proposal.coarse;
    AddActivation(y, proposal.bound);
  }

  // Those that nobody reads, and a few others.
  void FindOutputs() {
    std::set<int> read;
    for (int i = 0; i < runtime_.num_nodes(); ++i) {
      const tfl::IntArray* inputs = runtime_.node(i).inputs;
      for (int j = 0; j < inputs->size; ++j) read.insert(inputs->data[j]);
    }
    for (const int tensor : activations_) {
      if (tensor != 0 && (read.count(tensor) == 0 || extra_outputs_.count(tensor) != 0)) outputs_.push_back(tensor);
    }
  }

  // What others read of what nodes begin..end-1 write.
  std::vector<int> Visible(int begin, int end) {
    std::vector<int> visible;
    for (int i = begin; i < end; ++i) {
      const int y = runtime_.node(i).outputs->data[0];
      bool is_visible = std::find(outputs_.begin(), outputs_.end(), y) != outputs_.end();
      for (int j = 0; j < runtime_.num_nodes(); ++j) {
        const tfl::IntArray* inputs = runtime_.node(j).inputs;
        is_visible |= (j < begin || j >= end) && std::find(inputs->data, inputs->data + inputs->size, y) != inputs->data + inputs->size;
      }
      if (is_visible) visible.push_back(y);
    }
    return visible;
  }

  std::vector<std::unique_ptr<Part>> MakeSegments() {
    std::vector<std::unique_ptr<Part>> parts;
    for (int begin = 0, end; begin < runtime_.num_nodes(); begin = end) {
      end = begin + 1;
      while (runtime_.code(begin) != kForeign && end < runtime_.num_nodes() && runtime_.code(end) != kForeign) ++end;
      const std::vector<int> visible = Visible(begin, end);
      parts.emplace_back(new Part(&runtime_, begin, end, visible, &threads_, limits_));
    }
    return parts;
  }

  void FillX() {
    tfl::Tensor& x = runtime_.tensor(0);
    std::vector<uint8_t> bytes = Repeated(x_, x.bytes);
    if (type_ == tfl::kFloat32) MakeFloats(&bytes, wild_);
    if (!bytes.empty()) std::memcpy(x.data.raw, bytes.data(), bytes.size());
  }

  Outcome Run(int shape, std::vector<std::unique_ptr<Part>>* parts) {
    if (!runtime_.Reshape(0, x_shapes_[shape])) return {};
    FillX();
    bool good = true;
    for (const std::unique_ptr<Part>& part : *parts) good = good && part->Run();
    return Collect(good);
  }

  Outcome Collect(bool good) {
    Outcome outcome;
    outcome.good = good;
    for (const int tensor : outputs_) {
      if (good) outcome.outputs.push_back(runtime_.bytes(tensor));
    }
    return outcome;
  }

  // The bound is one of all values, so that errors are far below it, and a value from a wrong place mostly far above them.
  void Compare(const Outcome& outcome, const Outcome& expected) const {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const std::vector<uint8_t>&y = outcome.outputs[i], &z = expected.outputs[i];
      FUZZ_CHECK(y.size() == z.size());
      if (type_ == tfl::kInt8) FUZZ_CHECK(y == z);
      else if (!wild_ && bound_ <= kMaxComparable) FUZZ_CHECK(Near(y, z, static_cast<float>(bound_ * (coarse_ ? 2e-2 : 1e-6))));
      else if (wild_ && bound_ <= kMaxFinite && !coarse_) FUZZ_CHECK(SameNans(y, z));
    }
  }

  // What ops say about themselves, their channels and panels of channels, the ids of all weights, which may be kept, as bytes or packed for integer kernels, and 12 bytes for every row that is quantized on the way.
  long MaxAllocated() const {
    long bytes = static_cast<long>(runtime_.num_tensors()) * kBytesPerTensor + runtime_.num_nodes() * kBytesPerNode;
    for (const std::vector<int32_t>& shape : first_shapes_) bytes += shape.empty() ? 0 : shape.back() * kBytesPerChannel + (shape.back() / 32 + 1) * kBytesPerPanel;
    if (coarse_) bytes += 12 * static_cast<long>(FakeRuntime::kMaxBytes / sizeof(float));
    if (keeps_ids_) bytes += static_cast<long>(2 * (threads_.ids.UpTo(UINT64_MAX) - ids_before_)) + runtime_.num_nodes() * static_cast<long>(kKeptSlackBytes);
    return bytes;
  }

  FakeRuntime runtime_;
  Runtime& threads_;
  const bool keeps_ids_;
  uint64_t ids_before_ = 0;  // of earlier graphs on the same threads
  const BandLimits limits_;
  tfl::Type type_;
  bool wild_ = false, coarse_ = false, good_ = false, full_ = false;
  double bound_ = 0;
  std::vector<int32_t> x_shapes_[2];
  Input x_{nullptr, 0};
  std::unique_ptr<NodeMaker> maker_;
  std::vector<int> activations_, outputs_;
  std::vector<std::vector<int32_t>> first_shapes_;
  std::set<int> extra_outputs_;
  std::vector<std::unique_ptr<Part>> parts_;  // the nodes alone
  Outcome alone_[2], segments_[3];
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  ForceIsa(AvailableIsa(0)->name);
  Graph graph(&input);
  OnEveryIsa([&](int isa) { graph.CheckSegments(isa == 0); });
  return 0;
}
