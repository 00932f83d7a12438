// TFLiteSmart.Conv2D, .DepthwiseConv2D and .FullyConnected. Inputs: x, packed weight, bias or -1.
#include <new>

#include "doors/op.h"
#include "kernels/conv2d.h"

namespace tflite_smart {
namespace {

constexpr int32_t kMaxInt = INT32_MAX;
constexpr int kX = 0, kBias = 2;

// TFLite's own kernels ignore TANH and SIGN_BIT, so no converter may fuse them.
const char* const kActivations[] = {"NONE", "RELU", "RELU_N1_TO_1", "RELU6", nullptr};
const char* const kPaddings[] = {"VALID", "SAME", nullptr};

Status ReadActivation(const Options& options, Activation* activation) {
  int index;
  TFS_RETURN_IF_ERROR(options.Choice("activation", kActivations, &index));
  constexpr Activation kValues[] = {Activation::kNone, Activation::kRelu, Activation::kReluN1To1, Activation::kRelu6};
  *activation = kValues[index];
  return Status();
}

Status CheckFloatWeight(const PackedWeight& weight) {
  if (weight.value_kind != ValueKind::kInteger && weight.num_channels <= kMaxInt && weight.channel_elements <= kMaxInt) return Status();
  return MakeError(Code::kInvalidArgument, "packed weight value_kind must be uniform, midrise or codebook. Received: value_kind=%d, N=%u, "
                   "K=%u.", static_cast<int>(weight.value_kind), weight.num_channels, weight.channel_elements);
}

Status CheckBias(const tfl::Tensor* bias, const PackedWeight& weight) {
  if (bias == nullptr) return Status();
  Shape shape;
  TFS_RETURN_IF_ERROR(ReadShape(bias, tfl::kFloat32, "bias", &shape));
  if (shape.elements() == static_cast<int64_t>(weight.num_channels)) return Status();
  return MakeError(Code::kInvalidArgument, "bias elements must be %u, as many as the packed weight's channels. Received: elements=%lld.",
                   weight.num_channels, static_cast<long long>(shape.elements()));
}

class MultiplyOp : public Op {
 public:
  Status Prepare(tfl::Context* context) override {
    Shape x, y;
    TFS_RETURN_IF_ERROR(Shapes(context, &x, &y));
    return Resize(context, Output(context), y);
  }

  Status Invoke(tfl::Context* context) override {
    Shape x, y, bias;
    TFS_RETURN_IF_ERROR(Shapes(context, &x, &y));
    if (Output(context)->allocation_type == tfl::kDynamic) TFS_RETURN_IF_ERROR(Resize(context, Output(context), y));
    TFS_RETURN_IF_ERROR(CheckMemory(Input(context, kX), x, "input"));
    TFS_RETURN_IF_ERROR(CheckMemory(Output(context), y, "output"));
    layer_.bias = nullptr;
    if (const tfl::Tensor* tensor = Input(context, kBias)) {
      TFS_RETURN_IF_ERROR(ReadShape(tensor, tfl::kFloat32, "bias", &bias));
      TFS_RETURN_IF_ERROR(CheckMemory(tensor, bias, "bias"));
      layer_.bias = tensor->data.f;
    }
    layer_.weight = &weight_;
    layer_.x = Input(context, kX)->data.f;
    layer_.y = Output(context)->data.f;
    return RunConv2D(runtime_, layer_);
  }

 protected:
  // The shape of y, and layer_.geometry, from that of x.
  virtual Status Infer(const Shape& x, Shape* y) = 0;

  ConvLayer layer_ = {};

 private:
  Status Shapes(tfl::Context* context, Shape* x, Shape* y) {
    Shape any;
    TFS_RETURN_IF_ERROR(ReadShape(Input(context, kX), tfl::kFloat32, "input", x));
    TFS_RETURN_IF_ERROR(ReadShape(Output(context), tfl::kFloat32, "output", &any));
    TFS_RETURN_IF_ERROR(CheckBias(Input(context, kBias), weight_));
    return Infer(*x, y);
  }
};

class Conv2DOp : public MultiplyOp {
 public:
  explicit Conv2DOp(bool depthwise) : depthwise_(depthwise) {}

 protected:
  Status ReadOptions(const Options& options) override {
    ConvGeometry& g = layer_.geometry;
    TFS_RETURN_IF_ERROR(CheckFloatWeight(weight_));
    TFS_RETURN_IF_ERROR(ReadActivation(options, &layer_.activation));
    TFS_RETURN_IF_ERROR(options.Int("stride_h", 1, kMaxInt, &g.stride_height));
    TFS_RETURN_IF_ERROR(options.Int("stride_w", 1, kMaxInt, &g.stride_width));
    TFS_RETURN_IF_ERROR(options.Int("dilation_h", 1, kMaxInt, &g.dilation_height));
    TFS_RETURN_IF_ERROR(options.Int("dilation_w", 1, kMaxInt, &g.dilation_width));
    TFS_RETURN_IF_ERROR(options.Int("filter_h", 1, kMaxInt, &g.filter_height));
    TFS_RETURN_IF_ERROR(options.Int("filter_w", 1, kMaxInt, &g.filter_width));
    int padding;
    TFS_RETURN_IF_ERROR(options.Choice("padding", kPaddings, &padding));
    same_padding_ = padding == 1;
    g.filter_in = 1;
    if (depthwise_) {
      TFS_RETURN_IF_ERROR(options.Int("depth_multiplier", 1, kMaxInt, &depth_multiplier_));
    } else {
      TFS_RETURN_IF_ERROR(options.Int("filter_in", 1, kMaxInt, &g.filter_in));
    }
    g.out_channels = static_cast<int32_t>(weight_.num_channels);
    // Each factor divides K, so that the products cannot overflow.
    const uint32_t k = weight_.channel_elements, h = static_cast<uint32_t>(g.filter_height), w = static_cast<uint32_t>(g.filter_width);
    if (k % h == 0 && k / h % w == 0 && k / h / w == static_cast<uint32_t>(g.filter_in)) return Status();
    return MakeError(Code::kInvalidArgument, "packed weight K must be filter_h * filter_w * filter_in = %d * %d * %d. Received: K=%u.",
                     g.filter_height, g.filter_width, g.filter_in, k);
  }

  Status Infer(const Shape& x, Shape* y) override {
    ConvGeometry& g = layer_.geometry;
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
    if (!SetOutputSize(same_padding_, &g)) {
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

 private:
  const bool depthwise_;
  bool same_padding_ = false;
  int32_t depth_multiplier_ = 1;
};

class FullyConnectedOp : public MultiplyOp {
 protected:
  Status ReadOptions(const Options& options) override {
    TFS_RETURN_IF_ERROR(CheckFloatWeight(weight_));
    TFS_RETURN_IF_ERROR(ReadActivation(options, &layer_.activation));
    return options.Int("keep_num_dims", 0, 1, &keep_num_dims_);
  }

  Status Infer(const Shape& x, Shape* y) override {
    const int32_t k = static_cast<int32_t>(weight_.channel_elements);
    const int64_t rows = x.elements() / k;
    if (x.rank < 1 || x.elements() % k != 0 || rows > kMaxInt) {
      return MakeError(Code::kInvalidArgument, "input elements must be a multiple of the packed weight's K=%d. Received: elements=%lld.", k,
                       static_cast<long long>(x.elements()));
    }
    if (keep_num_dims_ != 0 && x.dims[x.rank - 1] != k) {
      return MakeError(Code::kInvalidArgument, "input's last dimension must be the packed weight's K=%d. Received: %d.", k, x.dims[x.rank - 1]);
    }
    layer_.geometry = FullyConnectedGeometry(weight_, static_cast<int32_t>(rows));
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

}  // namespace

std::unique_ptr<Op> MakeConv2D(bool depthwise) { return std::unique_ptr<Op>(new (std::nothrow) Conv2DOp(depthwise)); }
std::unique_ptr<Op> MakeFullyConnected() { return std::unique_ptr<Op>(new (std::nothrow) FullyConnectedOp); }

}  // namespace tflite_smart
