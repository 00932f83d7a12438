// Dynamic quantization: which layers run in integers, and what their inputs are quantized with. The formula is that of XNNPACK's `qd8` kernels, so
// that a model answers as LiteRT's dynamic-range version of it does, but for the weights.
#include <algorithm>
#include <limits>
#include <memory>
#include <new>

#include "kernels/int8_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

constexpr float kLeast = -128.0f, kMost = 127.0f;

// Beyond it a sum of products of two bytes could leave an int32.
constexpr uint32_t kMaxK = std::numeric_limits<int32_t>::max() / (255 * 128);

// Looking through fewer floats takes less time than waking a thread.
constexpr int64_t kThreadedFloats = 1 << 15;
constexpr size_t kMaxParts = 16;

// Whether 2 * id + 1 is an int8 for every id that the header allows.
bool OddIntegersFit(const PackedWeight& weight) {
  const Coding& coding = weight.coding;
  if (weight.codec == Codec::kRaw || weight.codec == Codec::kSparse || coding.has_escape) return false;
  const int codes = weight.codec == Codec::kRans ? weight.num_symbols << coding.raw_bits : 1 << coding.raw_bits;
  return coding.base >= -64 && coding.base + codes - 1 <= 63;
}

// The scale that makes full use of the bytes, for a range that includes 0, and the zero point that errs least at the nearer end.
Quantization FromRange(const float* range) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float width = range[1] - range[0];
  float inverse = (kMost - kLeast) / width;
  if (!(inverse < kInfinity)) inverse = 1.0f;  // nothing but zeros, or as good as: a byte is 0 for all of them
  const float low = range[0] * inverse, high = range[1] * inverse;
  if (!(width < kInfinity)) return {std::numeric_limits<float>::quiet_NaN(), 0.0f, 0};  // outputs can't be right: no one shall take them for numbers
  const float zero = low + kLeast + high + kMost > 0 ? kLeast - low : kMost - high;
  const float magic = 12582912.0f;  // rounds, halves to even: see int8_scalar.cc
  return {1.0f / inverse, inverse, static_cast<int32_t>(std::min(std::max(zero, kLeast), kMost) + magic - magic)};
}

Quantization QuantizationOf(const float* x, int64_t count) {
  float range[2] = {0.0f, 0.0f};
  ActiveIsa().i8->widen_range(x, static_cast<size_t>(count), range);
  return FromRange(range);
}

// One image, by all threads.
Status QuantizationOfLarge(Runtime* runtime, const float* x, int64_t count, Quantization* quantization) {
  const size_t parts = std::min(kMaxParts, static_cast<size_t>(runtime->threads.num_threads()));
  const int64_t part = (count + static_cast<int64_t>(parts) - 1) / static_cast<int64_t>(parts);
  float ranges[kMaxParts][2] = {};
  TFS_RETURN_IF_ERROR(runtime->threads.ParallelFor(parts, [&](size_t i) {
    const int64_t begin = std::min(count, static_cast<int64_t>(i) * part);
    ActiveIsa().i8->widen_range(x + begin, static_cast<size_t>(std::min(part, count - begin)), ranges[i]);
    return Status();
  }));
  for (size_t i = 1; i < parts; ++i) {
    ranges[0][0] = std::min(ranges[0][0], ranges[i][0]);
    ranges[0][1] = std::max(ranges[0][1], ranges[i][1]) + ranges[i][1] * 0.0f;  // NaN if one of them is
  }
  *quantization = FromRange(ranges[0]);
  return Status();
}

Status QuantizeImages(Runtime* runtime, const ConvLayer& layer, Quantization* images) {
  const ConvGeometry& g = layer.geometry;
  const int64_t count = static_cast<int64_t>(g.in_height) * g.in_width * g.in_channels, threads = runtime->threads.num_threads();
  if (g.batch < threads && count >= kThreadedFloats) {
    for (int32_t i = 0; i < g.batch; ++i) TFS_RETURN_IF_ERROR(QuantizationOfLarge(runtime, layer.x + i * count, count, &images[i]));
    return Status();
  }
  const Cuts cuts = Cuts::Make(g.batch, 1, g.batch * count >= kThreadedFloats ? threads : 1);
  return runtime->threads.ParallelFor(static_cast<size_t>(cuts.parts), [&](size_t part) {
    const int64_t end = cuts.Begin(static_cast<int64_t>(part) + 1);
    for (int64_t i = cuts.Begin(static_cast<int64_t>(part)); i < end; ++i) images[i] = QuantizationOf(layer.x + i * count, count);
    return Status();
  });
}

}  // namespace

bool IsDynamicInt8(const PackedWeight& weight, const ConvGeometry& g) {
  const bool depthwise = g.filter_in == 1 && g.groups() > 1;
  if (depthwise || MaxGroupsPerPanel(g) > kInt8MaxGemmGroups || weight.channel_elements > kMaxK) return false;
  switch (weight.value_kind) {
    case ValueKind::kInteger:
    case ValueKind::kUniform:
    case ValueKind::kDependent: return true;
    case ValueKind::kMidrise: return OddIntegersFit(weight);
    case ValueKind::kCodebook:
    case ValueKind::kSmartdeal: return false;
  }
  return false;
}

Status RunDynamicInt8Conv2D(Runtime* runtime, const ConvLayer& layer, KeptPanels* kept) {
  constexpr int32_t kFew = 128;
  Quantization few[kFew];
  std::unique_ptr<Quantization[]> many;
  if (layer.geometry.batch > kFew) {
    many.reset(new (std::nothrow) Quantization[layer.geometry.batch]);
    if (many == nullptr) return MakeError(Code::kOutOfMemory, "input: no memory for the scales of %d rows.", layer.geometry.batch);
  }
  Quantization* const images = many == nullptr ? few : many.get();
  TFS_RETURN_IF_ERROR(QuantizeImages(runtime, layer, images));
  return RunInt8Layer(runtime, {layer.weight, layer.geometry, nullptr, &layer, images, kept, PanelEpilogue(layer, 0)});
}

}  // namespace tflite_smart
