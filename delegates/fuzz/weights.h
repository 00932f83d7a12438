// Packed weights and numbers for targets that compute.
#ifndef TFLITE_SMART_FUZZ_WEIGHTS_H_
#define TFLITE_SMART_FUZZ_WEIGHTS_H_

#include <algorithm>
#include <cmath>

#include "core/encode.h"
#include "fuzz/seal.h"

namespace tflite_smart {
namespace fuzz {

// N channels of K elements each.
struct WeightKind {
  uint32_t n, k, inner;
  uint8_t value_kind;
  float scale;  // the smallest channel's
  bool may_have_bias = false;
};

// A weight of random ids in a random coding, then perhaps damaged behind right check sums.
inline std::vector<uint8_t> MakeWeight(Input* input, const WeightKind& kind) {
  const uint32_t n = kind.n, k = kind.k;
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
  uint8_t h[kHeaderBytes] = {'T', 'F', 'S', 'W', kVersion, static_cast<uint8_t>(settings.codec), kind.value_kind, settings.raw_bits,
                             static_cast<uint8_t>(settings.base), settings.num_symbols, settings.has_escape, 0};
  Store32(n, h + field::kNumChannels);
  Store32(k, h + field::kChannelElements);
  Store32(kind.inner, h + field::kInnerElements);
  Store32(per_tile, h + field::kPanelsPerTile);

  const uint32_t damage = input->Choose(8) == 0 ? input->Take<uint16_t>() : 0;
  uint32_t noise = input->Take<uint32_t>() | 1;
  uint32_t scale_bits;
  std::memcpy(&scale_bits, &kind.scale, sizeof(scale_bits));
  const bool has_scales = kind.value_kind != static_cast<uint8_t>(ValueKind::kInteger);
  const uint32_t code_bits = 3 + (noise >> 10) % 3, bias_bits = kind.may_have_bias && (noise >> 12 & 1) ? 1 + (noise >> 13) % kMaxBiasBits : 0;
  if (has_scales && (noise >> 9 & 1)) {
    h[field::kScaleExponent] = static_cast<uint8_t>(scale_bits >> 23);
    h[field::kScaleCoding] = static_cast<uint8_t>(code_bits | 4 << 4);  // two octaves at most
  }
  h[field::kBiasBits] = static_cast<uint8_t>(bias_bits);
  std::vector<uint8_t> ends, payload;
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
    if ((tile + 1) * per_tile >= panels) break;
    ends.resize(ends.size() + 4);
    Store32(static_cast<uint32_t>(payload.size()), ends.data() + ends.size() - 4);
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
  const uint32_t group_size = 1 + noise % 8, group_stride = noise >> 8 & 1 && k % group_size == 0 ? k / group_size : 1;
  const uint32_t groups = (k + group_size - 1) / group_size, slice_groups = 1 + (noise >> 16) % std::max(groups, 1u);
  if (kind.value_kind == static_cast<uint8_t>(ValueKind::kSmartdeal)) {
    blob.resize(blob.size() + kGroupingBytes);
    Store32(group_size, blob.data() + blob.size() - 12);
    Store32(group_stride, blob.data() + blob.size() - 8);
    Store32(slice_groups, blob.data() + blob.size() - 4);
    const uint32_t basis_bytes = (groups + slice_groups - 1) / slice_groups * group_size * group_size * n;
    for (uint32_t i = 0; i < basis_bytes; ++i) blob.push_back(static_cast<uint8_t>(i * noise >> 16) % 5);
  }
  blob.insert(blob.end(), payload.begin(), payload.end());
  const size_t payload_end = blob.size();
  for (uint32_t i = 0; h[field::kScaleExponent] != 0 && i < (n * code_bits + 7) / 8; ++i) blob.push_back(static_cast<uint8_t>(3 * (i % 13)));
  if (bias_bits != 0) {
    const uint32_t step = (127 - bias_bits) << 7;  // of biases below 1
    blob.push_back(static_cast<uint8_t>(step));
    blob.push_back(static_cast<uint8_t>(step >> 8));
    for (uint32_t i = 0; i < (n * bias_bits + 7) / 8; ++i) blob.push_back(static_cast<uint8_t>(i * noise >> 16));
  }
  Align(&blob);
  if (kind.value_kind == static_cast<uint8_t>(ValueKind::kCodebook)) floats(kCodebookSize, -3.0f, 0.5f);
  if (settings.codec == Codec::kRans) blob.insert(blob.end(), settings.frequency, settings.frequency + kSymbols);
  if (has_scales && h[field::kScaleExponent] == 0) floats(n, kind.scale, kind.scale / 2);
  blob.insert(blob.end(), ends.begin(), ends.end());
  MakeReadable(payload_end, &blob);
  Seal(blob.data(), blob.size());
  return blob;
}

// Mostly `good`, sometimes any number. Not where the fuzzer's bytes have come to their end.
inline int64_t Odd(Input* input, int64_t good) {
  if (!input->Seldom(64)) return good;
  constexpr int64_t kEdges[] = {0, -1, 1, 2, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 4096, 65536};
  return input->Choose(2) ? kEdges[input->Choose(10)] : input->Take<int64_t>();
}

inline uint8_t ChooseValueKind(Input* input) { return static_cast<uint8_t>(input->Choose(static_cast<uint32_t>(ValueKind::kSmartdeal) + 1)); }

// Numbers that no kernel may stumble over. None is so large that a sum of products of finite ones overflows, which may happen in one order of summation and not in another.
constexpr float kWild[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 1e-40f, -1e-45f, -0.0f};

// Bytes as float32: in -8..8, where they are wild now and then one of kWild.
inline void MakeFloats(std::vector<uint8_t>* x, bool wild) {
  for (size_t i = 0; i + 4 <= x->size(); i += 4) {
    uint8_t* p = x->data() + i;
    const bool odd = wild && p[2] % 16 == 0;
    const float value = odd ? kWild[p[3] % std::size(kWild)] : static_cast<float>(static_cast<int8_t>(p[0] ^ p[1])) / 16;
    std::memcpy(p, &value, 4);
  }
}

// What is left of the fuzzer's bytes, over and over.
inline std::vector<uint8_t> Repeated(const Input& input, size_t bytes) {
  std::vector<uint8_t> x = input.Rest();
  x.resize(std::max<size_t>(x.size(), 16), 0x3c);
  while (x.size() < bytes) x.insert(x.end(), x.begin(), x.begin() + static_cast<ptrdiff_t>(std::min(x.size(), bytes - x.size())));
  x.resize(bytes);
  return x;
}

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_WEIGHTS_H_
