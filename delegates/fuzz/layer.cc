// Target: a whole layer. The input chooses the op, its options, the weight's shape and coding, the shape and the numbers of x; mostly so that they fit, now and then not.
// Every instruction set must come to the same verdict; integer results must be equal, float results as near as rounding allows, and NaN in the same places.
#include "fuzz/compare.h"
#include "fuzz/fake_runtime.h"
#include "fuzz/weights.h"

namespace {

using namespace tflite_smart;
using namespace tflite_smart::fuzz;

constexpr uint64_t kMaxMultiplications = 1 << 19;
constexpr float kScale = 0.25f;
constexpr const char* kOps[] = {"Conv2D", "DepthwiseConv2D", "FullyConnected", "Expand", "Gather"};
constexpr const char* kActivations[] = {"NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"};

struct Layer {
  uint32_t op = 0;
  std::vector<uint8_t> weight, options;
  std::vector<int32_t> x_shape, y_shape;
  tfl::Type x_type = tfl::kFloat32, y_type = tfl::kFloat32;
  uint32_t num_channels = 0;
  bool integer_weight = false, smartdeal = false, bias = false, packed_bias = false, scales = false;
  uint64_t multiplications = 0;
  bool tame = true;  // the numbers are small and finite: outputs can be compared
};

// Now and then float inputs are quantized on the fly, where the layer can be computed so.
void AddCompute(Input* input, OptionsWriter* options) {
  if (input->Choose(3) == 0) options->String("compute", "int8");
}

Layer MakeConv(Input* input, Layer layer, uint8_t value_kind) {
  const bool depthwise = layer.op == 1;
  const uint32_t fh = 1 + input->Choose(5), fw = 1 + input->Choose(5), fi = depthwise ? 1 : 1 + input->Choose(40);
  const uint32_t groups = depthwise ? 1 + input->Choose(70) : input->Choose(8) == 0 ? 1 + input->Choose(6) : 1;
  const uint32_t per_group = 1 + input->Choose(depthwise ? 3 : 70), n = groups * per_group;
  layer.num_channels = n;
  const uint32_t k = fh * fw * fi;
  layer.weight = MakeWeight(input, {n, k, depthwise ? 1 : k, value_kind, kScale, layer.packed_bias});
  OptionsWriter options;
  options.Int("stride_h", Odd(input, 1 + input->Choose(3)));
  options.Int("stride_w", Odd(input, 1 + input->Choose(3)));
  options.Int("dilation_h", Odd(input, 1 + input->Choose(2)));
  options.Int("dilation_w", Odd(input, 1 + input->Choose(2)));
  options.Int("filter_h", Odd(input, fh));
  options.Int("filter_w", Odd(input, fw));
  options.Int(depthwise ? "depth_multiplier" : "filter_in", Odd(input, depthwise ? per_group : fi));
  options.String("padding", input->Choose(2) ? "SAME" : "VALID");
  options.String("activation", kActivations[input->Choose(5)]);
  AddCompute(input, &options);
  layer.options = options.Finish();
  const int32_t batch = static_cast<int32_t>(input->Choose(4)), height = static_cast<int32_t>(input->Choose(20)), width = static_cast<int32_t>(input->Choose(20));
  layer.x_shape = {batch, height, width, static_cast<int32_t>(groups * fi)};
  layer.y_shape = {1, 1, 1, 1};
  layer.multiplications = static_cast<uint64_t>(batch) * static_cast<uint64_t>(height * width) * n * k;
  return layer;
}

Layer MakeFullyConnectedLayer(Input* input, Layer layer, uint8_t value_kind) {
  const uint32_t n = 1 + input->Take<uint16_t>() % 300, k = 1 + input->Take<uint16_t>() % 1500;
  layer.num_channels = n;
  layer.weight = MakeWeight(input, {n, k, k, value_kind, kScale, layer.packed_bias});
  OptionsWriter options;
  options.Int("keep_num_dims", Odd(input, input->Choose(2)));
  options.String("activation", kActivations[input->Choose(5)]);
  AddCompute(input, &options);
  layer.options = options.Finish();
  const uint32_t rows = input->Choose(20);
  layer.x_shape = {static_cast<int32_t>(rows), static_cast<int32_t>(k)};
  if (input->Choose(4) == 0) layer.x_shape = {1, static_cast<int32_t>(rows), static_cast<int32_t>(k)};
  layer.y_shape = {1, static_cast<int32_t>(n)};
  layer.multiplications = static_cast<uint64_t>(rows) * n * k;
  return layer;
}

Layer MakeTable(Input* input, Layer layer, uint8_t value_kind) {
  const bool gather = layer.op == 4;
  const uint32_t n = 1 + input->Choose(200), outer = gather ? 1 : 1 + input->Choose(5), inner = 1 + input->Choose(60);
  layer.num_channels = n;
  layer.weight = MakeWeight(input, {n, outer * inner, inner, value_kind, kScale, layer.packed_bias});
  OptionsWriter options;
  options.Int("axis", Odd(input, 1));
  layer.options = options.Finish();
  layer.x_type = input->Choose(2) ? tfl::kInt32 : tfl::kInt64;
  layer.x_shape = {static_cast<int32_t>(input->Choose(30))};
  layer.y_shape = {static_cast<int32_t>(outer), static_cast<int32_t>(n), static_cast<int32_t>(inner)};
  if (gather) layer.y_shape = {layer.x_shape[0], static_cast<int32_t>(inner)};
  layer.y_type = value_kind == 0 ? tfl::kInt8 : tfl::kFloat32;
  layer.multiplications = static_cast<uint64_t>(n) * outer * inner;
  return layer;
}

Layer MakeLayer(Input* input) {
  Layer layer;
  layer.op = input->Choose(5);
  const uint8_t value_kind = ChooseValueKind(input);
  layer.smartdeal = value_kind == static_cast<uint8_t>(ValueKind::kSmartdeal);
  layer.integer_weight = value_kind == 0;
  const uint32_t bias = input->Choose(3);
  layer.bias = bias == 1;
  layer.packed_bias = bias == 2;
  layer.scales = layer.integer_weight;
  layer.tame = input->Choose(4) != 0;
  if (layer.integer_weight && input->Choose(2)) layer.x_type = layer.y_type = tfl::kInt8;
  if (layer.op < 2) return MakeConv(input, layer, value_kind);
  if (layer.op == 2) return MakeFullyConnectedLayer(input, layer, value_kind);
  return MakeTable(input, layer, value_kind);
}

// Bytes for x.
std::vector<uint8_t> MakeX(const Input& input, const Layer& layer, size_t bytes) {
  std::vector<uint8_t> x = Repeated(input, bytes);
  if (layer.x_type == tfl::kFloat32) MakeFloats(&x, !layer.tame);
  if (layer.op == 4) {  // indices: mostly rows of the table
    for (size_t i = 0; i < bytes; ++i) x[i] = i % (layer.x_type == tfl::kInt64 ? 8 : 4) == 0 ? static_cast<uint8_t>(x[i] % (layer.num_channels + layer.tame)) : 0;
  }
  return x;
}

struct Result {
  bool good = false;
  tfl::Type type = tfl::kNoType;
  std::vector<uint8_t> y;
};

// The bias: zeros as int32, or 0.25.
void AddBias(const Layer& layer, FakeRuntime* runtime) {
  const std::vector<int32_t> shape = {static_cast<int32_t>(layer.num_channels)};
  const std::vector<float> floats(layer.num_channels, layer.x_type == tfl::kInt8 ? 0.0f : 0.25f);  // 0 bits are int32 zeros as well
  runtime->AddTensor(layer.x_type == tfl::kInt8 ? tfl::kInt32 : tfl::kFloat32, shape, tfl::kMmapRo, floats.data());
}

// Kept from run to run, as their scratch is costly to make: the calling thread alone, and with a second one.
Runtime alone(1), shared(2);

Result Run(const Layer& layer, const Input& rest) {
  Result result;
  FakeRuntime runtime;
  if (!runtime.AddTensor(layer.x_type, layer.x_shape, tfl::kArenaRw)) return result;
  const std::vector<uint8_t> x = MakeX(rest, layer, runtime.tensor(0).bytes);
  if (!x.empty()) std::memcpy(runtime.tensor(0).data.raw, x.data(), x.size());
  runtime.AddTensor(tfl::kUInt8, {static_cast<int32_t>(layer.weight.size())}, tfl::kMmapRo, layer.weight.data());
  AddBias(layer, &runtime);
  const std::vector<float> scales(layer.num_channels, 0.0078125f);
  runtime.AddTensor(tfl::kFloat32, {static_cast<int32_t>(layer.num_channels)}, tfl::kMmapRo, scales.data());
  runtime.AddTensor(layer.y_type, layer.y_shape, tfl::kArenaRw);

  std::vector<int32_t> inputs = {0, 1, layer.bias ? 2 : -1};
  if (layer.scales) inputs.push_back(3);
  if (layer.op >= 3) inputs = {1, 0};
  const int32_t output = 4;
  const int node = runtime.AddNode(tfl::kBuiltinCustom, kOps[layer.op], inputs, output, layer.options);
  const std::unique_ptr<Op> op = MakeOp(kOps[layer.op]);
  Runtime& threads = layer.weight.size() % 8 == 0 ? shared : alone;
  threads.cache_bytes = layer.weight.size() % 2 == 0 ? UINT64_MAX : 0;  // with and without ids that are kept
  Status status = op->Init(runtime.context(), runtime.node(node), &threads);
  if (status.ok()) status = op->Prepare(runtime.context());
  for (int i = 0; i < 2 && status.ok(); ++i) status = op->Run(runtime.context());  // the second time from what the first has kept
  result.good = status.ok();
  result.type = runtime.tensor(output).type;
  if (result.good) result.y = runtime.bytes(output);
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const Layer layer = MakeLayer(&input);
  if (layer.multiplications > kMaxMultiplications) return 0;
  Result expected;
  OnEveryIsa([&](int isa) {
    const Result result = Run(layer, input);
    if (isa == 0) {
      expected = result;
      return;
    }
    FUZZ_CHECK(result.good == expected.good && result.y.size() == expected.y.size());
    if (!result.good) return;
    const bool exact = result.type == tfl::kInt8 || layer.op >= 3;
    if (exact) FUZZ_CHECK(result.y == expected.y || (result.type == tfl::kFloat32 && SameFloats(result.y, expected.y)));
    // Tame numbers: |x| <= 8, |w| mostly below 14, below 4000 with smartdeal; up to 2^19 products. The tolerances are above what their sum in another order rounds away,
    // and far below what a wrong index gives.
    if (!exact && layer.tame) FUZZ_CHECK(Near(result.y, expected.y, layer.smartdeal ? 20.0f : 0.25f));
    if (!exact && !layer.tame) FUZZ_CHECK(SameNans(result.y, expected.y));
  });
  return 0;
}
