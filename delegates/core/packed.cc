#include "core/packed.h"

#include <cmath>
#include <cstring>
#include <new>

#include "core/alias_tables.h"
#include "core/crc32.h"

namespace tflite_smart {
namespace {

uint32_t Load32(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

uint32_t Load16(const uint8_t* p) { return p[0] | uint32_t{p[1]} << 8; }

// Codes that lie one behind the other, from the lowest bit of the first byte on.
class CodeReader {
 public:
  explicit CodeReader(const uint8_t* p) : p_(p) {}

  uint32_t Next(uint32_t bits) {
    for (; have_ < bits; have_ += 8) rest_ |= uint32_t{*p_++} << have_;
    const uint32_t code = rest_ & ((1u << bits) - 1);
    rest_ >>= bits;
    have_ -= bits;
    return code;
  }

 private:
  const uint8_t* p_;
  uint32_t rest_ = 0, have_ = 0;
};

float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

constexpr char kMend[] = "The file is damaged or was written by another version: convert the model again.";

// `rule`, a name in the table of FORMAT.md section 5, must be `expected`; the bytes say `received`.
Status RuleError(const char* rule, const char* expected, long long received) {
  return MakeError(Code::kCorrupt, "packed weight: %s must be %s. Received: %s=%lld. %s", rule, expected, rule, received,
                   kMend);
}

long long Signed(uint64_t value) { return static_cast<long long>(value); }

Status CheckMagicVersion(const uint8_t* h) {
  if (std::memcmp(h + field::kMagic, "TFSW", 4) != 0) {
    return MakeError(Code::kCorrupt, "packed weight: magic must be 'TFSW'. Received: magic=0x%08x. %s", Load32(h), kMend);
  }
  if (h[field::kVersion] != kVersion) {
    return MakeError(Code::kUnsupported, "packed weight: version must be %d. Received: version=%d. Convert the model again with this release.",
                     kVersion, h[field::kVersion]);
  }
  return Status();
}

bool IsScaleCoding(uint32_t exponent, uint32_t coding) {
  const uint32_t bits = coding & 15, mantissa_bits = coding >> 4;
  if (exponent == 0) return coding == 0;
  return bits >= 1 && bits <= kMaxScaleBits && mantissa_bits <= kMaxMantissaBits && exponent + (((1u << bits) - 2) >> mantissa_bits) <= kMaxExponent;
}

// Fields whose rules depend on the codec.
Status CheckCoding(const uint8_t* h) {
  const uint8_t raw_bits = h[field::kRawBits], num_symbols = h[field::kNumSymbols], has_escape = h[field::kHasEscape];
  if (h[field::kCodec] > 3) return RuleError("codec", "0..3", h[field::kCodec]);
  const ValueKind kind = static_cast<ValueKind>(h[field::kValueKind]);
  if (kind > ValueKind::kSmartdeal) return RuleError("value_kind", "0..5", h[field::kValueKind]);
  if (h[field::kScaleExponent] != 0 && kind == ValueKind::kInteger) return RuleError("scale_exponent", "0 for integer", h[field::kScaleExponent]);
  if (!IsScaleCoding(h[field::kScaleExponent], h[field::kScaleCoding])) {
    return RuleError("scale_coding", "0 without a scale_exponent, else one of scales that are all finite", h[field::kScaleCoding]);
  }
  if (h[field::kBiasBits] > kMaxBiasBits) return RuleError("bias_bits", "0..16", h[field::kBiasBits]);
  const Codec codec = static_cast<Codec>(h[field::kCodec]);
  const bool plain = codec == Codec::kRaw || codec == Codec::kSparse;
  if (codec == Codec::kBitpack && raw_bits > kMaxBitpackBits) return RuleError("raw_bits", "0..7 for bitpack", raw_bits);
  if (codec == Codec::kRans && raw_bits > kMaxRansRawBits) return RuleError("raw_bits", "0..4 for rans", raw_bits);
  if (plain && raw_bits != 0) return RuleError("raw_bits", "0 for raw and sparse", raw_bits);
  if (plain && h[field::kBase] != 0) return RuleError("base", "0 for raw and sparse", static_cast<int8_t>(h[field::kBase]));
  if (codec == Codec::kRans && (num_symbols < 2 || num_symbols > kSymbols)) {
    return RuleError("num_symbols", "2..16 for rans", num_symbols);
  }
  if (codec != Codec::kRans && num_symbols != 0) return RuleError("num_symbols", "0 unless the codec is rans", num_symbols);
  if (has_escape > 1) return RuleError("has_escape", "0 or 1", has_escape);
  if (has_escape && plain) return RuleError("has_escape", "0 for raw and sparse", has_escape);
  if (has_escape && codec == Codec::kBitpack && raw_bits == 0) return RuleError("has_escape", "0 when raw_bits is 0", 1);
  return Status();
}

Status CheckShape(const PackedWeight& w) {
  if (w.num_channels == 0) return RuleError("num_channels", "at least 1", 0);
  if (w.channel_elements == 0) return RuleError("channel_elements", "at least 1", 0);
  if (w.num_elements() > kMaxElements) return RuleError("num_elements", "at most 2147483647", Signed(w.num_elements()));
  if (w.inner_elements == 0 || w.channel_elements % w.inner_elements != 0) {
    return RuleError("inner_elements", "a divisor of channel_elements", w.inner_elements);
  }
  if (w.panels_per_tile == 0 || w.panels_per_tile > w.num_panels) {
    return RuleError("panels_per_tile", "1..ceil(num_channels / 32)", w.panels_per_tile);
  }
  return Status();
}

Status CheckFrequencies(const uint8_t* frequency, uint32_t num_symbols) {
  uint32_t sum = 0;
  for (uint32_t s = 0; s < kSymbols; ++s) {
    if (s >= num_symbols && frequency[s] != 0) return RuleError("frequencies", "0 at and above num_symbols", frequency[s]);
    sum += frequency[s];
  }
  if (sum != kSlots) return RuleError("frequencies", "16 numbers of the sum 256", sum);
  return Status();
}

Status CheckFinite(const char* rule, const float* values, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) {
      return MakeError(Code::kCorrupt, "packed weight: %s must be finite. Received: %s[%u]=%g. %s", rule, rule, i,
                       static_cast<double>(values[i]), kMend);
    }
  }
  return Status();
}

// Reads the grouping at `p` and sets basis and piece_step, but for the pointer.
Status ReadGrouping(const uint8_t* p, PackedWeight* w, uint64_t* num_slices) {
  Basis& b = w->basis;
  b.group_size = Load32(p);
  b.group_stride = Load32(p + 4);
  b.slice_groups = Load32(p + 8);
  const uint64_t k = w->channel_elements, block = static_cast<uint64_t>(b.group_size) * b.group_stride;
  if (b.group_size < 1 || b.group_size > kMaxGroup) return RuleError("group_size", "1..8", b.group_size);
  if (b.group_stride == 0 || (b.group_stride > 1 && k % block != 0)) {
    return RuleError("group_stride", "1, or such that group_size * group_stride divides channel_elements", b.group_stride);
  }
  uint64_t step = block;
  while (step % kLanes != 0) step += block;  // at most 31 times
  if (step > k) step = k;
  if (b.group_stride > 1 && step > kMaxGroupedPiece) return RuleError("group_stride", "such that 2048 k hold whole groups and rows", b.group_stride);
  w->piece_step = static_cast<uint32_t>(step);
  const uint64_t groups = (k + b.group_size - 1) / b.group_size;
  if (b.slice_groups < 1 || b.slice_groups > groups) return RuleError("slice_groups", "1..ceil(channel_elements / group_size)", b.slice_groups);
  *num_slices = (groups + b.slice_groups - 1) / b.slice_groups;
  return Status();
}

Status CheckTileEnds(const PackedWeight& w) {
  for (uint32_t t = 1; t < w.num_tiles; ++t) {
    if (w.tile_end_offset(t) < w.tile_end_offset(t - 1)) return RuleError("tile_ends", "ascending, to payload_bytes", w.tile_end_offset(t - 1));
  }
  return Status();
}

Status CheckTileBytes(const PackedWeight& w) {
  for (uint32_t t = 0; t < w.num_tiles; ++t) {
    const uint64_t bytes = static_cast<uint64_t>(w.tile_end(t) - w.tile_begin(t));
    const uint64_t fixed = FixedTileBytes(w.codec, w.coding.raw_bits, w.tile_ids(t));
    if (w.codec == Codec::kRaw ? bytes != fixed : bytes < fixed) {
      return MakeError(Code::kCorrupt, "packed weight: tile_bytes must be %s %lld. Received: tile_bytes=%lld in tile %u. %s",
                       w.codec == Codec::kRaw ? "exactly" : "at least", Signed(fixed), Signed(bytes), t, kMend);
    }
  }
  return Status();
}

// Of all bytes but its own.
Status CheckCrc(const uint8_t* data, size_t size) {
  const uint32_t stored = Load32(data + field::kCrc);
  const uint32_t computed = Crc32(Crc32(0, data, field::kCrc), data + kHeaderBytes, size - kHeaderBytes);
  if (stored == computed) return Status();
  return MakeError(Code::kCorrupt, "packed weight: crc must be 0x%08x, the CRC-32 of its bytes. Received: crc=0x%08x. %s", computed, stored, kMend);
}

Status CheckZero(const uint8_t* begin, const uint8_t* end) {
  for (const uint8_t* p = begin; p < end; ++p) {
    if (*p != 0) return RuleError("padding", "bytes of 0", *p);
  }
  return Status();
}

}  // namespace

uint64_t FixedTileBytes(Codec codec, uint8_t raw_bits, uint64_t ids) {
  const uint64_t rows = ids / kLanes + (ids % kLanes != 0);
  switch (codec) {
    case Codec::kRaw: return ids;
    case Codec::kBitpack: return 4 * raw_bits * rows;
    case Codec::kRans: return 4 * raw_bits * rows + kStateBytes;
    case Codec::kSparse: return 4 * rows;
  }
  return 0;
}

Status Open(const uint8_t* data, size_t size, PackedWeight* out) {
  if (data == nullptr) return MakeError(Code::kInvalidArgument, "packed weight: data must not be null.");
  if (size < kHeaderBytes + kReadableBytes) return RuleError("size", "at least 76 bytes", Signed(size));
  if (reinterpret_cast<uintptr_t>(data) % alignof(float) != 0) {
    return MakeError(Code::kInvalidArgument, "packed weight: data must be 4-byte aligned. Received: data=%p. Copy it to an aligned buffer.",
                     static_cast<const void*>(data));
  }
  TFS_RETURN_IF_ERROR(CheckMagicVersion(data));
  TFS_RETURN_IF_ERROR(CheckCoding(data));

  PackedWeight& w = *out;
  w.codec = static_cast<Codec>(data[field::kCodec]);
  w.value_kind = static_cast<ValueKind>(data[field::kValueKind]);
  w.num_channels = Load32(data + field::kNumChannels);
  w.channel_elements = Load32(data + field::kChannelElements);
  w.inner_elements = Load32(data + field::kInnerElements);
  w.panels_per_tile = Load16(data + field::kPanelsPerTile);
  w.num_panels = w.num_channels / kLanes + (w.num_channels % kLanes != 0);
  w.payload_bytes = Load32(data + field::kPayloadBytes);
  TFS_RETURN_IF_ERROR(CheckShape(w));
  w.num_tiles = w.num_panels / w.panels_per_tile + (w.num_panels % w.panels_per_tile != 0);

  // All lengths in 64 bits, so that no field can wrap them round; only then do pointers follow.
  const uint64_t codebook_bytes = w.value_kind == ValueKind::kCodebook ? 4 * kCodebookSize : 0;
  const uint64_t frequency_bytes = w.codec == Codec::kRans ? kSymbols : 0;
  w.scale_exponent = data[field::kScaleExponent];
  w.scale_bits = data[field::kScaleCoding] & 15;
  w.mantissa_bits = data[field::kScaleCoding] >> 4;
  w.bias_bits = data[field::kBiasBits];
  const auto code_bytes = [&w](uint64_t bits) { return (w.num_channels * bits + 7) / 8; };
  const uint64_t scale_code_bytes = code_bytes(w.scale_bits), bias_bytes = w.bias_bits != 0 ? 2 + code_bytes(w.bias_bits) : 0;
  const uint64_t scale_bytes = w.value_kind == ValueKind::kInteger || w.scale_exponent != 0 ? 0 : 4ull * w.num_channels;
  const uint64_t sections = codebook_bytes + frequency_bytes + scale_bytes + 4ull * (w.num_tiles - 1ull);
  uint64_t before_payload = kHeaderBytes;
  w.basis = Basis();
  w.plain = PlainValues();
  w.piece_step = kLanes;
  if (w.value_kind == ValueKind::kSmartdeal) {
    uint64_t num_slices;
    TFS_RETURN_IF_ERROR(ReadGrouping(data + kHeaderBytes, &w, &num_slices));
    before_payload += kGroupingBytes;
    w.basis.values = reinterpret_cast<const int8_t*>(data + before_payload);
    before_payload += num_slices * w.basis.group_size * w.basis.group_size * w.num_channels;
  }
  const uint64_t payload_end = before_payload + w.payload_bytes, codes_end = payload_end + scale_code_bytes + bias_bytes;
  const uint64_t sections_at = (codes_end + 3) / 4 * 4, sections_end = sections_at + sections;
  const uint64_t expected = sections_end < payload_end + kReadableBytes ? payload_end + kReadableBytes : sections_end;
  if (size != expected) {
    return MakeError(Code::kCorrupt, "packed weight: size must be %lld bytes, as its header implies. Received: size=%lld. %s",
                     Signed(expected), Signed(size), kMend);
  }
  TFS_RETURN_IF_ERROR(CheckCrc(data, size));
  w.payload = data + before_payload;
  const uint8_t* p = data + sections_at;
  w.codebook = codebook_bytes ? reinterpret_cast<const float*>(p) : nullptr;
  const uint8_t* frequency = p + codebook_bytes;
  p = frequency + frequency_bytes;
  w.scales = scale_bytes && w.scale_exponent == 0 ? reinterpret_cast<const float*>(p) : nullptr;
  w.scale_codes = w.scale_exponent != 0 ? data + payload_end : nullptr;
  w.bias_codes = w.bias_bits != 0 ? data + payload_end + scale_code_bytes : nullptr;
  w.bias = nullptr;
  w.tile_ends = reinterpret_cast<const uint32_t*>(p + scale_bytes);

  const uint8_t raw_bits = data[field::kRawBits], num_symbols = data[field::kNumSymbols];
  w.num_symbols = num_symbols;
  w.coding = Coding();
  w.coding.raw_bits = raw_bits;
  w.coding.base = static_cast<int8_t>(data[field::kBase]);
  w.coding.has_escape = data[field::kHasEscape] != 0;
  w.coding.escape = static_cast<uint8_t>(w.codec == Codec::kRans ? num_symbols - 1 : (1 << raw_bits) - 1);
  if (w.codec == Codec::kRans) {
    TFS_RETURN_IF_ERROR(CheckFrequencies(frequency, num_symbols));
    w.coding.tables = BuildAliasTables(frequency);
  }
  if (w.codebook != nullptr) TFS_RETURN_IF_ERROR(CheckFinite("codebook", w.codebook, kCodebookSize));
  if (w.scales != nullptr) TFS_RETURN_IF_ERROR(CheckFinite("scales", w.scales, w.num_channels));
  if (w.bias_codes != nullptr) {
    const uint32_t step = Load16(w.bias_codes);
    if (step < kLeastBiasStep || step > kMostBiasStep) return RuleError("bias_step", "the upper half of a normal float32 below 2^112", step);
  }
  TFS_RETURN_IF_ERROR(CheckTileEnds(w));
  TFS_RETURN_IF_ERROR(CheckTileBytes(w));
  TFS_RETURN_IF_ERROR(CheckZero(data + codes_end, data + sections_at));
  return CheckZero(data + sections_end, data + size);
}

Status ReadChannels(PackedWeight* weight, std::unique_ptr<float[]>* floats) {
  const PackedWeight& w = *weight;
  if (w.scale_codes == nullptr && w.bias_codes == nullptr) return Status();
  floats->reset(new (std::nothrow) float[2ull * w.num_channels]);
  if (*floats == nullptr) return MakeError(Code::kOutOfMemory, "packed weight: no memory for scales and biases of %u channels.", w.num_channels);
  float* const bias = floats->get();
  float* const scales = bias + w.num_channels;
  if (w.scale_codes != nullptr) {
    CodeReader codes(w.scale_codes);
    const uint32_t lowest = (uint32_t{w.scale_exponent} << w.mantissa_bits) - 1;
    for (uint32_t n = 0; n < w.num_channels; ++n) {
      const uint32_t code = codes.Next(w.scale_bits);
      scales[n] = FloatOf(code == 0 ? 0 : (lowest + code) << (23 - w.mantissa_bits));
    }
    weight->scales = scales;
  }
  if (w.bias_codes != nullptr) {
    CodeReader codes(w.bias_codes + 2);
    const float step = FloatOf(Load16(w.bias_codes) << 16);
    const uint32_t shift = 32 - w.bias_bits;
    for (uint32_t n = 0; n < w.num_channels; ++n) bias[n] = step * static_cast<float>(static_cast<int32_t>(codes.Next(w.bias_bits) << shift) >> shift);
    weight->bias = bias;
  }
  return Status();
}

PackedWeight PlainWeight(const PlainValues& plain, uint32_t num_channels, uint32_t channel_elements, float* ones) {
  PackedWeight w = {};
  w.value_kind = ValueKind::kUniform;
  w.num_channels = num_channels;
  w.channel_elements = channel_elements;
  w.inner_elements = channel_elements;
  w.panels_per_tile = 1;
  w.num_panels = w.num_tiles = num_channels / kLanes + (num_channels % kLanes != 0);
  for (uint32_t i = 0; i < num_channels; ++i) ones[i] = 1.0f;
  w.scales = ones;
  w.plain = plain;
  w.piece_step = kLanes;
  return w;
}

}  // namespace tflite_smart
