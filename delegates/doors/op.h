// The operators behind TFLite's C ABI, TFLiteSmart.* and the builtin ones of glue_ops.h: what every door that speaks it shares.
//
// An Op remembers the tensors of the node in the model, not those of the delegate's node: a runtime sorts the latter and drops duplicates.
#ifndef TFLITE_SMART_DOORS_OP_H_
#define TFLITE_SMART_DOORS_OP_H_

#include <memory>
#include <vector>

#include "core/kept_ids.h"
#include "core/packed.h"
#include "core/runtime.h"
#include "doors/flexbuffer_reader.h"
#include "doors/tflite_abi.h"
#include "kernels/conv2d.h"

namespace tflite_smart {

constexpr char kOpPrefix[] = "TFLiteSmart.";

// The custom options of a node. A key that is missing or has a value that it must not have is an error that names it; keys that nobody
// asks for are ignored, so that a newer converter may add some.
class Options {
 public:
  Status Parse(const void* data, int size);
  // A key that need not be there has a `missing`: what this means.
  Status Int(const char* key, int64_t min, int64_t max, int32_t* value) const;
  Status Int(const char* key, int64_t min, int64_t max, int32_t missing, int32_t* value) const;

  // *index: the place of the string in `names`, which ends with null.
  Status Choice(const char* key, const char* const* names, int* index) const;
  Status Choice(const char* key, const char* const* names, int missing, int* index) const;

 private:
  FlexMap map_;
};

// Neighbouring lines of one float32 image: `count` from line `first` on, where data points to.
struct Lines {
  float* data;
  int32_t first, count;
};

// The lines of the input that an op needs for line y of its output: `reach` from y * stride - pad_top on, less those outside of the image.
struct LineWindow {
  int32_t stride, reach, pad_top;
};

class Op {
 public:
  virtual ~Op() = default;  // not a word to the runtime: a garbage collector may have destroyed the delegate first

  // Once: reads what the node says and checks what can't change.
  Status Init(tfl::Context* context, const tfl::Node& node, Runtime* runtime);

  // Whenever shapes may have changed: checks them and resizes the output.
  virtual Status Prepare(tfl::Context* context) = 0;
  virtual Status Run(tfl::Context* context) = 0;

  // For bands.h, after Prepare(). Whether the output is a float32 image that can be made line by line from those of input 0, and the same bits; and then
  // what Run() does, of some lines: x holds those within the windows of y's, and the tensors themselves need no memory.
  virtual bool ReadLineWindow(tfl::Context*, LineWindow*) const { return false; }
  virtual Status RunLines(tfl::Context*, const Lines&, const Lines&) { return NotByLines(); }

  // After Init(), for ops that neighbours.h finds neighbours for: x and its padding, an ADD of the
  // output and a residual, or the tensor of a curve of the output.
  virtual void AbsorbPad(int, const Padding&) {}
  virtual void AbsorbAdd(const tfl::Node&, Activation) {}
  virtual void AbsorbCurve(int, Curve) {}

  // For whoever plans memory: the tensors that Run() reads, and that which it writes; which of the inputs may lie where the output
  // does, or -1; and whether the output is the same numbers as that.
  const std::vector<int>& inputs() const { return inputs_; }
  int output() const { return output_; }
  virtual int InPlaceInput() const { return -1; }
  bool is_view() const { return is_view_; }

 protected:
  static Status NotByLines() { return MakeError(Code::kInvalidArgument, "an op without a line window can't be run by lines."); }
  virtual Status Open(tfl::Context* context, const tfl::Node& node) = 0;
  virtual int MinInputs() const { return 2; }
  virtual int MaxInputs() const { return 4; }

  // An input that must be there / the output. A missing optional one is null.
  tfl::Tensor* Input(tfl::Context* context, size_t i) const;
  tfl::Tensor* Output(tfl::Context* context) const { return &context->tensors[output_]; }

  void SetInput(size_t i, int tensor) { inputs_[i] = tensor; }
  void AddInput(int tensor) { inputs_.push_back(tensor); }
  void SetOutput(int tensor) { output_ = tensor; }

  Runtime* runtime_ = nullptr;
  bool is_view_ = false;

 private:
  std::vector<int> inputs_;
  int output_ = 0;
};

// An op of ours: custom options, and an input that is a packed weight.
class PackedOp : public Op {
 public:
  Status Run(tfl::Context* context) final;
  Status RunLines(tfl::Context* context, const Lines& x, const Lines& y) final;

 protected:
  Status Open(tfl::Context* context, const tfl::Node& node) override;
  virtual Status Invoke(tfl::Context* context) = 0;
  virtual Status InvokeLines(tfl::Context*, const Lines&, const Lines&) { return NotByLines(); }

  // Reads the options into the members of the op and checks them against `weight_`.
  virtual Status ReadOptions(const Options& options) = 0;
  virtual size_t PackedInput() const { return 1; }  // which input is the packed weight
  virtual bool KeepsIds(tfl::Context*) const { return true; }  // if the weight is small; asked when shapes are known
  bool is_small() const { return is_small_; }  // so that it may be kept decoded

  PackedWeight weight_;
  std::unique_ptr<float[]> channels_;  // scales and biases of weight_, where the file has them as codes

 private:
  Status OpenWeight(tfl::Context* context);
  Status KeepIdsOnce(tfl::Context* context);

  bool has_run_ = false, is_small_ = false;
  KeptIds kept_ids_;
};

// The op of that custom name, without the prefix too; null if there is none.
std::unique_ptr<Op> MakeOp(const char* custom_name);

// "Conv2D, DepthwiseConv2D, ...", for messages.
const char* OpNames();

// --- for the ops themselves

constexpr int kMaxRank = 8;

struct Shape {
  int rank = 0;
  int32_t dims[kMaxRank] = {};

  int64_t elements() const;
  bool operator==(const Shape& other) const;
};

// Error if the tensor is null, has another type or more than kMaxRank dimensions. `what` names it: "input", "bias".
Status ReadShape(const tfl::Tensor* tensor, tfl::Type type, const char* what, Shape* shape);

// Gives the output its shape if it has another one.
Status Resize(tfl::Context* context, tfl::Tensor* tensor, const Shape& shape);

// Error if the tensor's memory is not there or not as large as the shape. Call in Invoke, before using it.
Status CheckMemory(const tfl::Tensor* tensor, const Shape& shape, const char* what);

std::unique_ptr<Op> MakeConv2D(bool depthwise);
std::unique_ptr<Op> MakeFullyConnected();
std::unique_ptr<Op> MakeExpand();
std::unique_ptr<Op> MakeGather();

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_OP_H_
