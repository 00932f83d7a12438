// Proposes nodes for a graph that grows: ops of ours, and the builtin operators that the delegate takes over; mostly so that they fit the tensors that are there, now and then not.
#ifndef TFLITE_SMART_FUZZ_NODE_MAKER_H_
#define TFLITE_SMART_FUZZ_NODE_MAKER_H_

#include <limits>

#include "doors/builtin_params.h"
#include "fuzz/fake_runtime.h"
#include "fuzz/weights.h"

namespace tflite_smart {
namespace fuzz {

constexpr int kForeign = 1000;  // code of an operator that stays with the runtime
constexpr double kUnbounded = std::numeric_limits<double>::infinity();

// `bound`: of the values of the output, and of the rounding errors in it, in units of a float's; kUnbounded where nothing can be said.
struct Proposal {
  int code = kForeign;
  const char* name = nullptr;
  std::vector<int> inputs;
  std::vector<uint8_t> settings;
  double bound = 0;
  std::vector<int32_t> y_shape;  // as the model states it; it may be wrong
  bool coarse = false;           // rounded to int8 on the way
};

class NodeMaker {
 public:
  NodeMaker(Input* input, FakeRuntime* runtime, tfl::Type type) : input_(*input), runtime_(*runtime), type_(type) {}

  // A tensor that the next nodes may read.
  void AddActivation(int tensor, double bound) { activations_.push_back({tensor, bound}); }

  // No inputs: nothing that fits.
  Proposal Next() {
    using Make = Proposal (NodeMaker::*)();
    constexpr Make kMakes[] = {&NodeMaker::Conv,    &NodeMaker::Depthwise, &NodeMaker::FullyConnected, &NodeMaker::Foreign,       &NodeMaker::Gather, &NodeMaker::Binary, &NodeMaker::Unary,
                               &NodeMaker::Softmax, &NodeMaker::Mean,      &NodeMaker::Pool,           &NodeMaker::Reshape,       &NodeMaker::Pad,    &NodeMaker::Binary, &NodeMaker::Concatenation,
                               &NodeMaker::Unary,   &NodeMaker::PlainConv, &NodeMaker::Conv,           &NodeMaker::PlainDepthwise, &NodeMaker::MatMul, &NodeMaker::Transpose};
    const uint32_t chosen = input_.Choose(std::size(kMakes));
    x_ = !input_.Seldom(4) ? activations_.back() : activations_[input_.Choose(static_cast<uint32_t>(activations_.size()))];
    shape_ = runtime_.shape(x_.tensor);
    return (this->*kMakes[type_ == tfl::kInt8 ? chosen % 4 : chosen])();
  }

 private:
  struct Activation {
    int tensor;
    double bound;
  };
  static constexpr uint32_t kMaxMultiplications = 1 << 18;

  // --- ours

  Proposal Conv() { return shape_.size() == 4 ? Convolution(1 + input_.Choose(40), false) : Proposal(); }
  Proposal Depthwise() { return shape_.size() == 4 ? Convolution(Channels() * (1 + input_.Choose(2)), true) : Proposal(); }

  Proposal Convolution(uint32_t n, bool depthwise) {
    const uint32_t fh = 1 + input_.Choose(3), fw = 1 + input_.Choose(3), channels = Channels(), k = fh * fw * (depthwise ? 1 : channels);
    if (n == 0 || k == 0 || IsTooLarge(Elements() / std::max(channels, 1u), uint64_t{n} * k)) return {};
    OptionsWriter options;
    options.Int("stride_h", Odd(&input_, 1 + input_.Choose(2)));
    options.Int("stride_w", Odd(&input_, 1 + input_.Choose(2)));
    options.Int("dilation_h", 1);
    options.Int("dilation_w", Odd(&input_, 1 + input_.Choose(2)));
    options.Int("filter_h", fh);
    options.Int("filter_w", Odd(&input_, fw));
    options.Int(depthwise ? "depth_multiplier" : "filter_in", depthwise ? n / channels : channels);
    options.String("padding", input_.Choose(2) ? "SAME" : "VALID");
    return Multiplication(depthwise ? "TFLiteSmart.DepthwiseConv2D" : "TFLiteSmart.Conv2D", {n, k, depthwise ? 1 : k, 0, 0}, &options);
  }

  Proposal FullyConnected() {
    const uint32_t n = 1 + input_.Choose(40), k = Channels();
    if (k == 0 || IsTooLarge(Elements() / k, uint64_t{n} * k)) return {};
    OptionsWriter options;
    options.Int("keep_num_dims", input_.Choose(2));
    return Multiplication("TFLiteSmart.FullyConnected", {n, k, k, 0, 0}, &options);
  }

  // The weights of a channel add up to less than 1, or 8 where they are few and one is large; a basis may multiply that by 32.
  Proposal Multiplication(const char* name, WeightKind kind, OptionsWriter* options) {
    constexpr const char* kActivations[] = {"NONE", "RELU", "RELU6", "RELU_N1_TO_1"};
    kind.value_kind = type_ == tfl::kInt8 ? 0 : ChooseValueKind(&input_);
    kind.scale = 1.0f / static_cast<float>(32 * kind.k);
    options->String("activation", kActivations[input_.Choose(4)]);
    Proposal p = Start(tfl::kBuiltinCustom, name);
    p.coarse = type_ == tfl::kFloat32 && input_.Seldom(8);
    if (p.coarse) options->String("compute", "int8");
    p.settings = options->Finish();
    const uint32_t bias_kind = input_.Choose(3);  // 2: in the packed weight
    kind.may_have_bias = bias_kind == 2;
    const std::vector<uint8_t> weight = MakeWeight(&input_, kind);
    p.inputs.push_back(Constant(tfl::kUInt8, {static_cast<int32_t>(weight.size())}, weight.data()));
    const int32_t n = static_cast<int32_t>(kind.n);
    const std::vector<float> bias(kind.n, type_ == tfl::kInt8 ? 0.0f : 0.25f), scales(kind.n, type_ == tfl::kInt8 ? 0.0078125f : kind.scale);
    p.inputs.push_back(bias_kind != 1 ? tfl::kOptionalTensor : Constant(type_ == tfl::kInt8 ? tfl::kInt32 : tfl::kFloat32, {n}, bias.data()));
    const bool smartdeal = kind.value_kind == static_cast<uint8_t>(ValueKind::kSmartdeal);
    if (kind.value_kind == 0) p.inputs.push_back(Constant(tfl::kFloat32, {n}, scales.data()));
    p.bound = (smartdeal ? 32 : 1) * (kind.k < 16 ? 8 : 1) * x_.bound + 1;
    return p;
  }

  Proposal Gather() {
    const uint32_t n = 1 + input_.Choose(40), inner = 1 + input_.Choose(20);
    OptionsWriter options;
    options.Int("axis", Odd(&input_, 1));
    const std::vector<uint8_t> weight = MakeWeight(&input_, {n, inner, inner, static_cast<uint8_t>(1 + input_.Choose(3)), 1.0f / 32});
    const int32_t indices[] = {0, static_cast<int32_t>(Odd(&input_, n - 1)), static_cast<int32_t>(n / 2)};
    Proposal p;
    p.code = tfl::kBuiltinCustom;
    p.name = "TFLiteSmart.Gather";
    p.inputs = {Constant(tfl::kUInt8, {static_cast<int32_t>(weight.size())}, weight.data()), Constant(tfl::kInt32, {3}, indices)};
    p.settings = options.Finish();
    p.bound = 32;
    p.y_shape = {3, static_cast<int32_t>(inner)};
    return p;
  }

  // --- builtin ones

  Proposal Foreign() { return Start(kForeign, nullptr); }

  Proposal Binary() {
    constexpr int kCodes[] = {tfl::kAdd, tfl::kMul, tfl::kSub, tfl::kSquaredDifference};
    const Activation other = Other();
    Proposal p = Start(kCodes[input_.Choose(4)], nullptr, tfl::BinaryParams{Fused()});
    if (input_.Choose(2)) p.inputs.insert(p.inputs.begin(), other.tensor);
    else p.inputs.push_back(other.tensor);
    const double sum = x_.bound + other.bound;
    p.bound = p.code == tfl::kMul ? 2 * x_.bound * other.bound : p.code == tfl::kSquaredDifference ? 4 * sum * (sum + 1) : sum;
    return p;
  }

  Proposal Unary() {
    constexpr int kCodes[] = {tfl::kLogistic, tfl::kHardSwish, tfl::kRelu, tfl::kReluN1To1, tfl::kRelu6, tfl::kNeg, tfl::kRsqrt, tfl::kGelu};
    Proposal p = Start(kCodes[input_.Choose(8)], nullptr, tfl::GeluParams{input_.Choose(2) != 0});
    p.bound = p.code == tfl::kRsqrt ? kUnbounded : 2 * p.bound;
    return p;
  }

  Proposal Softmax() {
    constexpr float kBetas[] = {1.0f, 0.5f, 2.0f, -1.0f};
    const bool odd = input_.Seldom(32);
    const float beta = odd ? kWild[input_.Choose(std::size(kWild))] : kBetas[input_.Choose(4)];
    Proposal p = Start(tfl::kSoftmax, nullptr, tfl::SoftmaxParams{beta});
    p.bound = odd ? kUnbounded : 1 + 4 * x_.bound;
    return p;
  }

  Proposal Mean() {
    std::vector<int32_t> axes = {static_cast<int32_t>(Odd(&input_, 1)), 2, static_cast<int32_t>(Odd(&input_, -2))};
    axes.resize(1 + input_.Choose(3));
    Proposal p = Start(tfl::kMean, nullptr, tfl::ReducerParams{input_.Choose(2) != 0});
    p.inputs.push_back(Constant(tfl::kInt32, {static_cast<int32_t>(axes.size())}, axes.data()));
    return p;
  }

  Proposal Pool() {
    const auto small = [this] { return static_cast<int>(Odd(&input_, 1 + input_.Choose(3))); };
    const int code = input_.Choose(2) ? tfl::kAveragePool2D : tfl::kMaxPool2D;
    return Start(code, nullptr, tfl::PoolParams{PaddingOf(), small(), small(), small(), small(), Fused()});
  }

  Proposal Reshape() {
    const int32_t rows = static_cast<int32_t>(Odd(&input_, shape_.empty() ? 1 : shape_[0])), channels = static_cast<int32_t>(Channels());
    const std::vector<int32_t> shapes[] = {{-1, channels}, {rows, -1}, {rows, 1, -1, channels}, {-1}};
    const std::vector<int32_t>& shape = shapes[input_.Choose(4)];
    Proposal p = Start(tfl::kReshape, nullptr);
    p.inputs.push_back(Constant(tfl::kInt32, {static_cast<int32_t>(shape.size())}, shape.data()));
    return p;
  }

  Proposal Concatenation() {
    const int axis = static_cast<int>(Odd(&input_, static_cast<int64_t>(shape_.size()) - 1 - input_.Choose(2)));
    Proposal p = Start(tfl::kConcatenation, nullptr, tfl::ConcatenationParams{axis, Fused()});
    for (uint32_t more = input_.Choose(3); more > 0; --more) {
      const Activation other = Other();
      p.inputs.push_back(other.tensor);
      p.bound = std::max(p.bound, other.bound);
    }
    return p;
  }

  // By a constant matrix, or by the matrices of another tensor.
  Proposal MatMul() {
    const bool transposed = input_.Choose(2) != 0, constant = input_.Choose(2) != 0;
    const int32_t n = static_cast<int32_t>(1 + input_.Choose(40)), depth = static_cast<int32_t>(Odd(&input_, Channels()));
    if (shape_.size() < 2 || IsTooLarge(Elements() / std::max(Channels(), 1u), Channels() * 40)) return {};
    Proposal p = Start(tfl::kBatchMatMul, nullptr, tfl::BatchMatMulParams{input_.Seldom(16), transposed});
    const std::vector<float> values(depth < 0 || depth > 4096 ? 0 : static_cast<size_t>(n * depth), 1.0f / static_cast<float>(Channels()));
    const Activation other = constant ? x_ : Other();
    p.inputs.push_back(constant ? Constant(tfl::kFloat32, transposed ? std::vector<int32_t>{n, depth} : std::vector<int32_t>{depth, n}, values.data(), values.size()) : other.tensor);
    p.bound = constant ? 2 * x_.bound + 1 : 2 * Channels() * (x_.bound + 1) * (other.bound + 1);
    return p;
  }

  Proposal Transpose() {
    std::vector<int32_t> axes(shape_.size());
    const uint32_t turn = input_.Choose(static_cast<uint32_t>(axes.size()) + 1);
    for (size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int32_t>(Odd(&input_, static_cast<int64_t>((i + turn) % axes.size()) - (input_.Choose(4) == 0 ? static_cast<int64_t>(axes.size()) : 0)));
    if (axes.size() > 1 && input_.Choose(2)) std::swap(axes[0], axes[1]);
    Proposal p = Start(tfl::kTranspose, nullptr);
    p.inputs.push_back(Constant(tfl::kInt32, {static_cast<int32_t>(axes.size())}, axes.data()));
    return p;
  }

  Proposal Pad() {
    std::vector<int32_t> zeros(2 * shape_.size());
    for (size_t i = 0; i < zeros.size(); ++i) {
      const bool inside = shape_.size() == 4 && (i < 2 || i > 5);
      zeros[i] = static_cast<int32_t>(Odd(&input_, inside ? 0 : input_.Choose(3)));
    }
    Proposal p = Start(tfl::kPad, nullptr);
    p.inputs.push_back(Constant(tfl::kInt32, {static_cast<int32_t>(shape_.size()), 2}, zeros.data()));
    return p;
  }

  Proposal PlainConv() {
    const int32_t n = static_cast<int32_t>(1 + input_.Choose(40)), size = static_cast<int32_t>(1 + input_.Choose(2)), channels = static_cast<int32_t>(Channels());
    if (shape_.size() != 4 || Elements() * static_cast<uint32_t>(n * size * size) > kMaxMultiplications) return {};
    Proposal p = Start(tfl::kConv2D, nullptr, tfl::Conv2DParams{PaddingOf(), Step(), Step(), Fused(), Step(), Step()});
    return Plain(p, {n, size, size, static_cast<int32_t>(Odd(&input_, channels))}, n);
  }

  Proposal PlainDepthwise() {
    const int32_t size = static_cast<int32_t>(1 + input_.Choose(2)), multiplier = static_cast<int32_t>(1 + input_.Choose(2)), n = static_cast<int32_t>(Channels()) * multiplier;
    if (shape_.size() != 4) return {};
    Proposal p = Start(tfl::kDepthwiseConv2D, nullptr, tfl::DepthwiseConv2DParams{PaddingOf(), Step(), Step(), multiplier, Fused(), Step(), Step()});
    return Plain(p, {1, size, size, static_cast<int32_t>(Odd(&input_, n))}, n);
  }

  Proposal Plain(Proposal p, const std::vector<int32_t>& filter, int32_t n) {
    size_t elements = 1;
    for (const int32_t dim : filter) elements *= dim < 0 || dim > 4096 ? 0 : static_cast<size_t>(dim);
    std::vector<float> values(elements);
    for (size_t i = 0; i < elements; ++i) values[i] = static_cast<float>(static_cast<int>(i * 7 % 17) - 8) * static_cast<float>(n) / static_cast<float>(8 * elements);
    p.inputs.push_back(Constant(tfl::kFloat32, filter, values.data(), elements));
    const std::vector<float> bias(static_cast<size_t>(n), 0.25f);
    if (input_.Choose(2)) p.inputs.push_back(Constant(tfl::kFloat32, {n}, bias.data()));
    p.y_shape[3] = n;
    p.bound = 8 * x_.bound + 1;
    return p;
  }

  // --- parts

  Proposal Start(int code, const char* name) const {
    Proposal p;
    p.code = code;
    p.name = name;
    p.inputs = {x_.tensor};
    p.bound = x_.bound;
    p.y_shape = shape_;
    return p;
  }
  template <class P>
  Proposal Start(int code, const char* name, const P& params) const {
    Proposal p = Start(code, name);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&params);
    p.settings.assign(bytes, bytes + sizeof(params));
    return p;
  }

  // A second operand: another tensor of that shape, one value for every channel or for all, now and then anything.
  Activation Other() {
    const uint32_t kind = input_.Choose(8);
    if (kind == 7) return activations_[input_.Choose(static_cast<uint32_t>(activations_.size()))];
    const std::vector<float> values(Channels() + 1, 0.5f);
    if (kind == 6) return {Constant(tfl::kFloat32, {}, values.data()), 1};
    if (kind == 5) return {Constant(tfl::kFloat32, {static_cast<int32_t>(Channels())}, values.data()), 1};
    for (size_t i = activations_.size(); i-- > 0;) {
      const Activation& other = activations_[i];
      if (other.tensor != x_.tensor && runtime_.shape(other.tensor) == shape_) return other;
    }
    return x_;
  }

  int Constant(tfl::Type type, const std::vector<int32_t>& shape, const void* data, size_t elements = 1) {
    runtime_.AddTensor(type, shape, tfl::kMmapRo, elements == 0 ? nullptr : data);
    return static_cast<int>(runtime_.num_tensors()) - 1;
  }

  int Step() { return static_cast<int>(Odd(&input_, input_.Seldom(8) ? 2 : 1)); }
  tfl::Fused Fused() { return static_cast<tfl::Fused>(Odd(&input_, input_.Choose(8) < 4 ? 0 : input_.Choose(4))); }
  tfl::PaddingKind PaddingOf() { return static_cast<tfl::PaddingKind>(Odd(&input_, 1 + input_.Choose(2))); }
  uint32_t Channels() const { return shape_.empty() ? 1 : static_cast<uint32_t>(shape_.back()); }
  // Weights count even where there is nothing that they could be multiplied with.
  bool IsTooLarge(uint64_t positions, uint64_t weights) const {
    return Channels() > kMaxMultiplications || std::max<uint64_t>(positions, 1) * weights > kMaxMultiplications;
  }

  uint32_t Elements() const {
    uint32_t product = 1;
    for (const int32_t dim : shape_) product *= static_cast<uint32_t>(dim);
    return product;
  }

  Input& input_;
  FakeRuntime& runtime_;
  const tfl::Type type_;
  std::vector<Activation> activations_;
  Activation x_ = {};  // what the next node reads
  std::vector<int32_t> shape_;
};

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_NODE_MAKER_H_
