// TFLiteSmart.Conv2D, .DepthwiseConv2D and .FullyConnected. Inputs: x, packed weight, bias or -1; for a packed weight of value kind
// `integer` also the scales of its quantization. x, y and bias are float32, or int8, int8 and int32 (then the weight must be `integer`).
// A bias that is added to floats may be in the packed weight instead.
#include <new>
#include <vector>

#include "doors/bands.h"
#include "doors/builtin_params.h"
#include "doors/int8_quantization.h"
#include "doors/op.h"
#include "doors/plain_ops.h"
#include "kernels/conv2d.h"
#include "kernels/int8_kept.h"

namespace tflite_smart {
namespace {

constexpr int32_t kMaxInt = INT32_MAX;
constexpr int32_t kMaxStep = 1 << 16;  // of a stride or a dilation: far above any image's size, far below what overflows
constexpr size_t kX = 0, kBias = 2, kScales = 3;

// TFLite's own kernels ignore TANH and SIGN_BIT, so no converter may fuse them.
const char* const kActivations[] = {"NONE", "RELU", "RELU_N1_TO_1", "RELU6", nullptr};
const char* const kPaddings[] = {"VALID", "SAME", nullptr};
const char* const kComputes[] = {"auto", "f32", "int8", nullptr};  // in the order of Compute

Status ReadActivation(const Options& options, Activation* activation) {
  int index;
  TFS_RETURN_IF_ERROR(options.Choice("activation", kActivations, 0, &index));
  constexpr Activation kValues[] = {Activation::kNone, Activation::kRelu, Activation::kReluN1To1, Activation::kRelu6};
  *activation = kValues[index];
  return Status();
}

// How to multiply float activations; models that do not say so are computed in floats.
Status ReadCompute(const Options& options, const Runtime& runtime, bool* in_int8) {
  int index;
  TFS_RETURN_IF_ERROR(options.Choice("compute", kComputes, static_cast<int>(Compute::kAuto), &index));
  const Compute wanted = runtime.compute == Compute::kAuto ? static_cast<Compute>(index) : runtime.compute;
  *in_int8 = wanted == Compute::kInt8;
  return Status();
}

Status CheckBias(const tfl::Tensor* bias, tfl::Type type, const PackedWeight& weight) {
  if (bias == nullptr) return Status();
  Shape shape;
  TFS_RETURN_IF_ERROR(ReadShape(bias, type, "bias", &shape));
  if (shape.elements() == static_cast<int64_t>(weight.num_channels)) return Status();
  return MakeError(Code::kInvalidArgument, "bias elements must be %u, as many as the packed weight's channels. Received: elements=%lld.",
                   weight.num_channels, static_cast<long long>(shape.elements()));
}

class MultiplyOp : public PackedOp {
 public:
  Status Prepare(tfl::Context* context) override {
    Shape x, y;
    TFS_RETURN_IF_ERROR(Shapes(context, &x, &y));
    if (integer_weight()) {
      TFS_RETURN_IF_ERROR(integer(context) ? quantization_.Read(*Input(context, kX), *Output(context), Input(context, kScales),
                                                                weight_, activation_, fully_connected())
                                           : float_scales_.Read(Input(context, kScales), weight_));
    }
    return Resize(context, Output(context), y);
  }

  bool ReadLineWindow(tfl::Context* context, LineWindow* window) const override {
    if (integer(context) || in_int8_ || !IsLineByLine(weight_, geometry_)) return false;
    *window = WindowOf(geometry_);
    return true;
  }

  Status Invoke(tfl::Context* context) override {
    Shape x, y;
    TFS_RETURN_IF_ERROR(Shapes(context, &x, &y));
    if (Output(context)->allocation_type == tfl::kDynamic) TFS_RETURN_IF_ERROR(Resize(context, Output(context), y));
    TFS_RETURN_IF_ERROR(CheckMemory(Input(context, kX), x, "input"));
    TFS_RETURN_IF_ERROR(CheckMemory(Output(context), y, "output"));
    TFS_RETURN_IF_ERROR(CheckBiasMemory(context));
    if (integer(context)) return RunInt8(*Input(context, kX), Input(context, kBias), *Output(context));
    return RunFloat(context, geometry_, Input(context, kX)->data.f, Output(context)->data.f, 0);
  }

  Status InvokeLines(tfl::Context* context, const Lines& x, const Lines& y) override {
    TFS_RETURN_IF_ERROR(CheckBiasMemory(context));
    const int64_t line = static_cast<int64_t>(geometry_.out_width) * geometry_.out_channels;
    return RunFloat(context, GeometryOf(geometry_, x, y), x.data, y.data, y.first * line);
  }

  void AbsorbPad(int x, const Padding& padding) override {
    SetInput(kX, x);
    padding_ = padding;
  }

  void AbsorbAdd(const tfl::Node& add, Activation activation) override {
    while (inputs().size() <= kScales) AddInput(tfl::kOptionalTensor);
    residual_ = inputs().size();
    AddInput(add.inputs->data[add.inputs->data[0] == output() ? 1 : 0]);
    residual_activation_ = activation;
    SetOutput(add.outputs->data[0]);
  }

  void AbsorbCurve(int y, Curve curve) override {
    curve_ = curve;
    SetOutput(y);
  }

 protected:
  bool KeepsIds(tfl::Context* context) const override { return !in_integers(context) || !KeepsPanels(weight_, geometry_); }

  // The shape of y, and geometry_, from that of x.
  virtual Status Infer(const Shape& x, Shape* y) = 0;
  virtual bool fully_connected() const { return false; }

  ConvGeometry geometry_ = {};
  Activation activation_ = Activation::kNone;
  Padding padding_ = {};
  bool in_int8_ = false;  // float activations are multiplied as int8 where the kernels can

 private:
  bool integer_weight() const { return weight_.value_kind == ValueKind::kInteger; }

  // Integer arithmetic; with float activations an integer weight is a uniform one.
  bool integer(tfl::Context* context) const { return integer_weight() && Input(context, kX)->type == tfl::kInt8; }

  // Integer arithmetic, whatever the activations are.
  bool in_integers(tfl::Context* context) const { return integer(context) || (in_int8_ && IsDynamicInt8(weight_, geometry_)); }

  KeptPanels* kept_panels() { return is_small() ? &kept_panels_ : nullptr; }

  // What the type of a bias must be.
  tfl::Type BiasType(tfl::Context* context) const { return integer(context) ? tfl::kInt32 : tfl::kFloat32; }

  Status Shapes(tfl::Context* context, Shape* x, Shape* y) {
    Shape any;
    const tfl::Type type = integer(context) ? tfl::kInt8 : tfl::kFloat32;
    TFS_RETURN_IF_ERROR(ReadShape(Input(context, kX), type, "input", x));
    TFS_RETURN_IF_ERROR(ReadShape(Output(context), type, "output", &any));
    TFS_RETURN_IF_ERROR(CheckBias(Input(context, kBias), BiasType(context), weight_));
    if (weight_.bias != nullptr && (type == tfl::kInt8 || Input(context, kBias) != nullptr)) {
      return MakeError(Code::kInvalidArgument, "bias must be in the packed weight or an input, and an input of integer layers. Received: bias_bits=%d.",
                       weight_.bias_bits);
    }
    return Infer(*x, y);
  }

  Status CheckBiasMemory(tfl::Context* context) const {
    const tfl::Tensor* tensor = Input(context, kBias);
    if (tensor == nullptr) return Status();
    Shape bias;
    TFS_RETURN_IF_ERROR(ReadShape(tensor, BiasType(context), "bias", &bias));
    return CheckMemory(tensor, bias, "bias");
  }

  // y is the output from element `first` on.
  Status RunFloat(tfl::Context* context, const ConvGeometry& geometry, const float* x, float* y, int64_t first) {
    PackedWeight uniform;
    const PackedWeight* weight = &weight_;
    if (integer_weight()) {
      uniform = weight_;
      uniform.value_kind = ValueKind::kUniform;
      uniform.scales = float_scales_.scales();
      weight = &uniform;
    }
    const tfl::Tensor* bias = Input(context, kBias);
    const float* const added = bias == nullptr ? weight_.bias : bias->data.f;
    const ConvLayer layer = {weight, geometry, activation_, added, x, y};
    TFS_RETURN_IF_ERROR(in_int8_ && IsDynamicInt8(*weight, geometry) ? RunDynamicInt8Conv2D(runtime_, layer, kept_panels()) : RunConv2D(runtime_, layer));
    const int64_t count = geometry.positions() * geometry.out_channels;
    if (residual_ != 0) return AddResidual(context, first, count, y);
    return curve_ == Curve::kNone ? Status() : RunCurve(runtime_, curve_, y, count, y);
  }

  Status AddResidual(tfl::Context* context, int64_t first, int64_t count, float* y) {
    const tfl::Tensor& residual = *Input(context, residual_);
    Shape shape, output;
    TFS_RETURN_IF_ERROR(ReadShape(&residual, tfl::kFloat32, "residual", &shape));
    TFS_RETURN_IF_ERROR(ReadShape(Output(context), tfl::kFloat32, "output", &output));
    if (!(shape == output)) {
      return MakeError(Code::kUnsupported, "residual shape must be that of the output, %lld elements. Received: %lld elements. Give all inputs "
                       "of the model the same batch.", static_cast<long long>(output.elements()), static_cast<long long>(shape.elements()));
    }
    TFS_RETURN_IF_ERROR(CheckMemory(&residual, shape, "residual"));
    return AddTo(runtime_, residual.data.f + first, count, residual_activation_, y);
  }

  Status RunInt8(const tfl::Tensor& x, const tfl::Tensor* bias, const tfl::Tensor& y) {
    FixedInt8 layer = {};
    quantization_.Fill(&layer);
    layer.bias = bias == nullptr ? nullptr : bias->data.i32;
    layer.x = x.data.i8;
    layer.y = y.data.i8;
    return RunFixedInt8Conv2D(runtime_, weight_, geometry_, layer, kept_panels());
  }

  Int8Quantization quantization_;
  WeightScales float_scales_;
  KeptPanels kept_panels_;
  size_t residual_ = 0;  // input that is added to the output; 0: none
  Activation residual_activation_ = Activation::kNone;
  Curve curve_ = Curve::kNone;
};

class Conv2DOp : public MultiplyOp {
 public:
  explicit Conv2DOp(bool depthwise) : depthwise_(depthwise) {}

 protected:
  Status ReadOptions(const Options& options) override {
    ConvGeometry& g = geometry_;
    TFS_RETURN_IF_ERROR(ReadActivation(options, &activation_));
    TFS_RETURN_IF_ERROR(ReadCompute(options, *runtime_, &in_int8_));
    TFS_RETURN_IF_ERROR(options.Int("stride_h", 1, kMaxStep, 1, &g.stride_height));
    TFS_RETURN_IF_ERROR(options.Int("stride_w", 1, kMaxStep, 1, &g.stride_width));
    TFS_RETURN_IF_ERROR(options.Int("dilation_h", 1, kMaxStep, 1, &g.dilation_height));
    TFS_RETURN_IF_ERROR(options.Int("dilation_w", 1, kMaxStep, 1, &g.dilation_width));
    TFS_RETURN_IF_ERROR(options.Int("filter_h", 1, kMaxInt, 1, &g.filter_height));
    TFS_RETURN_IF_ERROR(options.Int("filter_w", 1, kMaxInt, 1, &g.filter_width));
    int padding;
    TFS_RETURN_IF_ERROR(options.Choice("padding", kPaddings, 1, &padding));
    padding_.same = padding == 1;
    g.filter_in = 1;
    const uint32_t k = weight_.channel_elements, h = static_cast<uint32_t>(g.filter_height), w = static_cast<uint32_t>(g.filter_width);
    if (depthwise_) {
      TFS_RETURN_IF_ERROR(options.Int("depth_multiplier", 1, kMaxInt, 1, &depth_multiplier_));
    } else {
      TFS_RETURN_IF_ERROR(options.Int("filter_in", 1, kMaxInt, static_cast<int32_t>(k / h / w), &g.filter_in));
    }
    g.out_channels = static_cast<int32_t>(weight_.num_channels);
    // Each factor divides K, so that the products cannot overflow.
    if (k % h == 0 && k / h % w == 0 && k / h / w == static_cast<uint32_t>(g.filter_in)) return Status();
    return MakeError(Code::kInvalidArgument, "packed weight K must be filter_h * filter_w * filter_in = %d * %d * %d. Received: K=%u.",
                     g.filter_height, g.filter_width, g.filter_in, k);
  }

  Status Infer(const Shape& x, Shape* y) override {
    ConvGeometry& g = geometry_;
    if (x.rank != 4) return MakeError(Code::kInvalidArgument, "input dimensions must be 4. Received: dimensions=%d.", x.rank);
    const int32_t channels = x.dims[3];
    if (depthwise_ && static_cast<int64_t>(channels) * depth_multiplier_ != g.out_channels) {
      return MakeError(Code::kInvalidArgument, "packed weight N must be input channels * depth_multiplier = %d * %d. Received: N=%d.", channels,
                       depth_multiplier_, g.out_channels);
    }
    if (channels < g.filter_in || channels % g.filter_in != 0 || g.out_channels % (channels / g.filter_in) != 0) {
      return MakeError(Code::kInvalidArgument, "input channels must be a multiple of filter_in=%d and N=%d one of the groups. Received: "
                       "channels=%d.", g.filter_in, g.out_channels, channels);
    }
    g.batch = x.dims[0];
    g.in_height = x.dims[1];
    g.in_width = x.dims[2];
    g.in_channels = channels;
    if (!SetOutputSize(padding_, &g)) {
      return MakeError(Code::kInvalidArgument, "input must be at least as large as the filter, %d x %d. Received: %d x %d.", g.filter_height,
                       g.filter_width, g.in_height, g.in_width);
    }
    y->rank = 4;
    y->dims[0] = g.batch;
    y->dims[1] = g.out_height;
    y->dims[2] = g.out_width;
    y->dims[3] = g.out_channels;
    return Status();
  }

  const bool depthwise_;
  int32_t depth_multiplier_ = 1;
};

class FullyConnectedOp : public MultiplyOp {
 protected:
  bool fully_connected() const override { return true; }

  Status ReadOptions(const Options& options) override {
    TFS_RETURN_IF_ERROR(ReadActivation(options, &activation_));
    TFS_RETURN_IF_ERROR(ReadCompute(options, *runtime_, &in_int8_));
    return options.Int("keep_num_dims", 0, 1, 0, &keep_num_dims_);
  }

  Status Infer(const Shape& x, Shape* y) override {
    const int32_t k = static_cast<int32_t>(weight_.channel_elements);
    const int64_t elements = x.elements(), rows = elements == k ? 1 : elements / k;
    if (x.rank < 1 || elements != rows * k || rows > kMaxInt) {
      return MakeError(Code::kInvalidArgument, "input elements must be a multiple of the packed weight's K=%d. Received: elements=%lld.", k,
                       static_cast<long long>(x.elements()));
    }
    if (keep_num_dims_ != 0 && x.dims[x.rank - 1] != k) {
      return MakeError(Code::kInvalidArgument, "input's last dimension must be the packed weight's K=%d. Received: %d.", k, x.dims[x.rank - 1]);
    }
    geometry_ = FullyConnectedGeometry(weight_, static_cast<int32_t>(rows));
    if (keep_num_dims_ != 0) {
      *y = x;
    } else {
      y->rank = 2;
      y->dims[0] = static_cast<int32_t>(rows);
    }
    y->dims[y->rank - 1] = static_cast<int32_t>(weight_.num_channels);
    return Status();
  }

 private:
  int32_t keep_num_dims_ = 0;
};

// --- weights that are not packed

constexpr int64_t kMaxPlainElements = 16384;
constexpr size_t kMinPlainBytes = 16 << 10;  // of the output; below, another node costs less than our threads save

class PlainConv2DOp : public Conv2DOp {
 public:
  using Conv2DOp::Conv2DOp;

 protected:
  bool KeepsIds(tfl::Context*) const override { return false; }

  Status Open(tfl::Context* context, const tfl::Node& node) override {
    const tfl::Tensor& weight = *Input(context, 1);
    const int* dims = weight.dims->data;  // out, h, w, in; depthwise 1, h, w, out
    const int32_t window = dims[1] * dims[2];
    ConvGeometry& g = geometry_;
    g.filter_height = dims[1];
    g.filter_width = dims[2];
    g.filter_in = depthwise_ ? 1 : dims[3];
    g.out_channels = depthwise_ ? dims[3] : dims[0];
    ones_.resize(static_cast<size_t>(g.out_channels));
    const uint32_t channels = static_cast<uint32_t>(g.out_channels), k = static_cast<uint32_t>(window * g.filter_in);
    if (depthwise_) {
      ReadParams(Params<tfl::DepthwiseConv2DParams>(node));
      depth_multiplier_ = g.out_channels / Input(context, kX)->dims->data[3];
      weight_ = PlainWeight({weight.data.f, 1, channels}, channels, k, ones_.data());
    } else {
      ReadParams(Params<tfl::Conv2DParams>(node));
      weight_ = PlainWeight({weight.data.f, k, 1}, channels, k, ones_.data());
    }
    return Status();
  }

 private:
  template <class P>
  void ReadParams(const P& p) {
    padding_.same = p.padding == tfl::kPaddingSame;
    geometry_.stride_width = p.stride_width;
    geometry_.stride_height = p.stride_height;
    geometry_.dilation_width = p.dilation_width;
    geometry_.dilation_height = p.dilation_height;
    ReadFused(p.activation, &activation_);
  }

  std::vector<float> ones_;
};

// x of 4 dimensions, a small constant weight of 4 and a bias that may be missing; and an output that is worth it, or the single pixel of a
// squeeze-and-excitation block, in the middle of others.
bool IsPlain(const tfl::Context& context, const tfl::Node& node) {
  if (node.inputs->size != 2 && node.inputs->size != 3) return false;
  const tfl::Tensor& x = context.tensors[node.inputs->data[0]];
  const tfl::Tensor& weight = context.tensors[node.inputs->data[1]];
  const tfl::Tensor& y = context.tensors[node.outputs->data[0]];
  const bool one_pixel = y.dims != nullptr && y.dims->size == 4 && y.dims->data[1] == 1 && y.dims->data[2] == 1;
  if (!one_pixel && y.bytes < kMinPlainBytes) return false;
  Shape shape;
  return x.dims != nullptr && x.dims->size == 4 && x.dims->data[3] > 0 && weight.allocation_type == tfl::kMmapRo &&
         ReadShape(&weight, tfl::kFloat32, "weight", &shape).ok() && shape.rank == 4 && shape.elements() > 0 &&
         shape.elements() <= kMaxPlainElements && CheckMemory(&weight, shape, "weight").ok();
}

template <class P>
bool IsSupported(const P& p) {
  Activation activation;
  const auto step = [](int i) { return i >= 1 && i <= kMaxStep; };
  return ReadFused(p.activation, &activation) && (p.padding == tfl::kPaddingSame || p.padding == tfl::kPaddingValid) && step(p.stride_width) &&
         step(p.stride_height) && step(p.dilation_width) && step(p.dilation_height);
}

}  // namespace

bool IsPlainConv2D(const tfl::Context& context, const tfl::Node& node) {
  return IsPlain(context, node) && IsSupported(Params<tfl::Conv2DParams>(node));
}

bool IsPlainDepthwiseConv2D(const tfl::Context& context, const tfl::Node& node) {
  if (!IsPlain(context, node) || !IsSupported(Params<tfl::DepthwiseConv2DParams>(node))) return false;
  return context.tensors[node.inputs->data[1]].dims->data[0] == 1;
}

Op* MakePlainConv2D(int builtin_code) { return new (std::nothrow) PlainConv2DOp(builtin_code == tfl::kDepthwiseConv2D); }
std::unique_ptr<Op> MakeConv2D(bool depthwise) { return std::unique_ptr<Op>(new (std::nothrow) Conv2DOp(depthwise)); }
std::unique_ptr<Op> MakeFullyConnected() { return std::unique_ptr<Op>(new (std::nothrow) FullyConnectedOp); }

}  // namespace tflite_smart
