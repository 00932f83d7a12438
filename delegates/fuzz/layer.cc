// Target: a whole layer. The input chooses the op, its options, the weight's shape and coding, the shape and the numbers of x; mostly so that they fit, now and then not.
// Every instruction set must come to the same verdict; integer results must be equal, float results as near as rounding allows, and NaN in the same places.
#include <algorithm>
#include <cmath>

#include "core/encode.h"
#include "fuzz/fake_runtime.h"
#include "fuzz/seal.h"

namespace {

using namespace tflite_smart;
using namespace tflite_smart::fuzz;

constexpr uint64_t kMaxMultiplications = 1 << 19;
constexpr const char* kOps[] = {"Conv2D", "DepthwiseConv2D", "FullyConnected", "Expand", "Gather"};
constexpr const char* kActivations[] = {"NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"};

struct Layer {
  uint32_t op = 0;
  std::vector<uint8_t> weight, options;
  std::vector<int32_t> x_shape, y_shape;
  tfl::Type x_type = tfl::kFloat32, y_type = tfl::kFloat32;
  uint32_t num_channels = 0;
  bool integer_weight = false, smartdeal = false, bias = false, scales = false;
  uint64_t multiplications = 0;
  bool tame = true;  // the numbers are small and finite: outputs can be compared
};

// A weight of random ids in a random coding, then perhaps damaged behind right check sums.
std::vector<uint8_t> MakeWeight(Input* input, uint32_t n, uint32_t k, uint32_t inner, uint8_t value_kind) {
  EncoderSettings settings = {};
  settings.codec = static_cast<Codec>(input->Choose(4));
  const bool plain = settings.codec == Codec::kRaw || settings.codec == Codec::kSparse;
  if (!plain) {
    settings.raw_bits = static_cast<uint8_t>(1 + input->Choose(4));
    settings.base = static_cast<int8_t>(-(1 << settings.raw_bits));
    settings.has_escape = true;
  }
  if (settings.codec == Codec::kRans) {
    const uint8_t frequencies[] = {60, 80, 70, 40, 6};
    settings.num_symbols = 5;
    std::copy(std::begin(frequencies), std::end(frequencies), settings.frequency);
  }
  const uint32_t panels = (n + kLanes - 1) / kLanes, per_tile = 1 + input->Choose(panels);
  uint8_t h[kHeaderBytes] = {'T', 'F', 'S', 'W', kVersion, static_cast<uint8_t>(settings.codec), value_kind, settings.raw_bits,
                             static_cast<uint8_t>(settings.base), settings.num_symbols, settings.has_escape, 0};
  Store32(n, h + field::kNumChannels);
  Store32(k, h + field::kChannelElements);
  Store32(inner, h + field::kInnerElements);
  Store32(per_tile, h + field::kPanelsPerTile);

  const uint32_t damage = input->Choose(8) == 0 ? input->Take<uint16_t>() : 0;
  uint32_t noise = input->Take<uint32_t>() | 1;
  std::vector<uint8_t> index(4), payload;
  for (uint32_t tile = 0; tile * per_tile < panels; ++tile) {
    const uint32_t channels = std::min(n - tile * per_tile * kLanes, per_tile * kLanes);
    std::vector<int8_t> ids(static_cast<size_t>(channels) * k);
    for (int8_t& id : ids) {
      noise = noise * 1664525 + 1013904223;
      id = static_cast<int8_t>(noise >> 24 < 3 ? noise >> 16 : (noise >> 28) - 8);
    }
    std::vector<uint8_t> bytes(static_cast<size_t>(EncodeBound(settings, ids.size())));
    uint64_t size = 0;
    FUZZ_CHECK(EncodeTile(settings, ids.data(), ids.size(), bytes.data(), &size).ok());
    payload.insert(payload.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    index.resize(index.size() + 4);
    Store32(static_cast<uint32_t>(payload.size()), index.data() + index.size() - 4);
  }
  if (damage != 0) payload[damage % payload.size()] ^= static_cast<uint8_t>(1 + damage % 255);
  Store32(static_cast<uint32_t>(payload.size()), h + field::kPayloadBytes);

  std::vector<uint8_t> blob(h, h + kHeaderBytes);
  const auto floats = [&blob](uint32_t count, float first, float step) {
    for (uint32_t i = 0; i < count; ++i) {
      const float value = first + step * static_cast<float>(i % 13);
      blob.resize(blob.size() + 4);
      std::memcpy(blob.data() + blob.size() - 4, &value, 4);
    }
  };
  if (value_kind == static_cast<uint8_t>(ValueKind::kCodebook)) floats(kCodebookSize, -3.0f, 0.5f);
  if (settings.codec == Codec::kRans) blob.insert(blob.end(), settings.frequency, settings.frequency + kSymbols);
  const uint32_t group_size = 1 + noise % 8, group_stride = noise >> 8 & 1 && k % group_size == 0 ? k / group_size : 1;
  const uint32_t groups = (k + group_size - 1) / group_size, slice_groups = 1 + (noise >> 16) % groups;
  const bool smartdeal = value_kind == static_cast<uint8_t>(ValueKind::kSmartdeal);
  if (smartdeal) {
    blob.resize(blob.size() + kGroupingBytes);
    Store32(group_size, blob.data() + blob.size() - 12);
    Store32(group_stride, blob.data() + blob.size() - 8);
    Store32(slice_groups, blob.data() + blob.size() - 4);
  }
  if (value_kind != static_cast<uint8_t>(ValueKind::kInteger)) floats(n, 0.25f, 0.125f);
  blob.insert(blob.end(), index.begin(), index.end());
  const uint32_t basis_bytes = smartdeal ? (groups + slice_groups - 1) / slice_groups * group_size * group_size * n : 0;
  for (uint32_t i = 0; i < basis_bytes; ++i) blob.push_back(static_cast<uint8_t>(i * noise >> 16) % 5);
  blob.insert(blob.end(), payload.begin(), payload.end());
  blob.resize(blob.size() + kPaddingBytes);
  Seal(blob.data(), blob.size());
  return blob;
}

// Mostly `good`, sometimes any number.
int64_t Odd(Input* input, int64_t good) {
  if (input->Choose(64) != 0) return good;
  constexpr int64_t kEdges[] = {0, -1, 1, 2, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 4096, 65536};
  return input->Choose(2) ? kEdges[input->Choose(10)] : input->Take<int64_t>();
}

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
  layer.weight = MakeWeight(input, n, k, depthwise ? 1 : k, value_kind);
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
  layer.weight = MakeWeight(input, n, k, k, value_kind);
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
  layer.weight = MakeWeight(input, n, outer * inner, inner, value_kind);
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
  const uint8_t value_kind = static_cast<uint8_t>(input->Choose(static_cast<uint32_t>(ValueKind::kSmartdeal) + 1));
  layer.smartdeal = value_kind == static_cast<uint8_t>(ValueKind::kSmartdeal);
  layer.integer_weight = value_kind == 0;
  layer.bias = input->Choose(2);
  layer.scales = layer.integer_weight;
  layer.tame = input->Choose(4) != 0;
  if (layer.integer_weight && input->Choose(2)) layer.x_type = layer.y_type = tfl::kInt8;
  if (layer.op < 2) return MakeConv(input, layer, value_kind);
  if (layer.op == 2) return MakeFullyConnectedLayer(input, layer, value_kind);
  return MakeTable(input, layer, value_kind);
}

// Numbers that no kernel may stumble over. None is so large that a sum of products of finite ones overflows, which may happen in one order of summation and not in another.
constexpr float kWild[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 1e-40f, -1e-45f, -0.0f};

// Bytes for x.
std::vector<uint8_t> MakeX(Input* input, const Layer& layer, size_t bytes) {
  std::vector<uint8_t> x = input->Rest();
  x.resize(std::max<size_t>(x.size(), 16), 0x3c);
  while (x.size() < bytes) x.insert(x.end(), x.begin(), x.begin() + static_cast<ptrdiff_t>(std::min(x.size(), bytes - x.size())));
  x.resize(bytes);
  if (layer.x_type == tfl::kFloat32) {
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
      const bool wild = !layer.tame && x[i + 2] % 16 == 0;
      const float value = wild ? kWild[x[i + 3] % std::size(kWild)] : static_cast<float>(static_cast<int8_t>(x[i] ^ x[i + 1])) / 16;
      std::memcpy(x.data() + i, &value, 4);
    }
  }
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

// Kept from run to run, as their scratch is costly to make: the calling thread alone, and with a second one.
Runtime alone(1), shared(2);

Result Run(const Layer& layer, const Input& rest) {
  Result result;
  FakeRuntime runtime;
  if (!runtime.AddTensor(layer.x_type, layer.x_shape, tfl::kArenaRw)) return result;
  Input input = rest;
  const std::vector<uint8_t> x = MakeX(&input, layer, runtime.tensor(0).bytes);
  if (!x.empty()) std::memcpy(runtime.tensor(0).data.raw, x.data(), x.size());
  runtime.AddTensor(tfl::kUInt8, {static_cast<int32_t>(layer.weight.size())}, tfl::kMmapRo, layer.weight.data());
  const std::vector<float> floats(layer.num_channels, layer.x_type == tfl::kInt8 ? 0.0f : 0.25f);  // 0 bits are int32 zeros as well
  runtime.AddTensor(layer.x_type == tfl::kInt8 ? tfl::kInt32 : tfl::kFloat32, {static_cast<int32_t>(layer.num_channels)}, tfl::kMmapRo, floats.data());
  const std::vector<float> scales(layer.num_channels, 0.0078125f);
  runtime.AddTensor(tfl::kFloat32, {static_cast<int32_t>(layer.num_channels)}, tfl::kMmapRo, scales.data());
  runtime.AddTensor(layer.y_type, layer.y_shape, tfl::kArenaRw);

  std::vector<int32_t> inputs = {0, 1, layer.bias ? 2 : -1};
  if (layer.scales) inputs.push_back(3);
  if (layer.op >= 3) inputs = {1, 0};
  const int32_t output = 4;
  tfl::Node node = {};
  node.inputs = FakeRuntime::MakeDims(inputs.data(), static_cast<int>(inputs.size()));
  node.outputs = FakeRuntime::MakeDims(&output, 1);
  node.custom_initial_data = layer.options.data();
  node.custom_initial_data_size = static_cast<int>(layer.options.size());
  const std::unique_ptr<Op> op = MakeOp(kOps[layer.op]);
  Runtime& threads = layer.weight.size() % 8 == 0 ? shared : alone;
  threads.total_ids = layer.weight.size() % 2 == 0 ? 0 : threads.cache_bytes;  // with and without ids that are kept
  Status status = op->Init(runtime.context(), node, &threads);
  if (status.ok()) status = op->Prepare(runtime.context());
  for (int i = 0; i < 2 && status.ok(); ++i) status = op->Run(runtime.context());  // the second time from what the first has kept
  std::free(node.inputs);
  std::free(node.outputs);
  result.good = status.ok();
  const tfl::Tensor& y = runtime.tensor(output);
  result.type = y.type;
  if (result.good) result.y.assign(static_cast<const uint8_t*>(y.data.raw), static_cast<const uint8_t*>(y.data.raw) + y.bytes);
  return result;
}

// Tame numbers: |x| <= 8, |w| mostly below 14, below 4000 with smartdeal; up to 2^19 products. The tolerances are above what their sum in another order rounds away, and far
// below what a wrong index gives.
bool Near(const Result& a, const Result& b, float tolerance) {
  for (size_t i = 0; i + 4 <= a.y.size(); i += 4) {
    float p, q;
    std::memcpy(&p, a.y.data() + i, 4);
    std::memcpy(&q, b.y.data() + i, 4);
    if (!(std::fabs(p - q) <= tolerance + 1e-4f * std::fabs(p))) return false;
  }
  return true;
}

// Equal bit for bit, except that one NaN is as good as another.
bool Same(const Result& a, const Result& b) {
  if (a.y == b.y) return true;
  if (a.type != tfl::kFloat32) return false;
  for (size_t i = 0; i + 4 <= a.y.size(); i += 4) {
    float p, q;
    std::memcpy(&p, a.y.data() + i, 4);
    std::memcpy(&q, b.y.data() + i, 4);
    if (std::memcmp(&p, &q, 4) == 0 || (std::isnan(p) && std::isnan(q))) continue;
    std::fprintf(stderr, "output %zu: %g, scalar code %g\n", i / 4, static_cast<double>(p), static_cast<double>(q));
    return false;
  }
  return true;
}

bool SameNans(const Result& a, const Result& b) {
  for (size_t i = 0; i + 4 <= a.y.size(); i += 4) {
    float p, q;
    std::memcpy(&p, a.y.data() + i, 4);
    std::memcpy(&q, b.y.data() + i, 4);
    if (std::isnan(p) != std::isnan(q)) return false;
  }
  return true;
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
    if (exact) FUZZ_CHECK(Same(result, expected));
    if (!exact && layer.tame) FUZZ_CHECK(Near(result, expected, layer.smartdeal ? 20.0f : 0.25f));
    if (!exact && !layer.tame) FUZZ_CHECK(SameNans(result, expected));
  });
  return 0;
}
