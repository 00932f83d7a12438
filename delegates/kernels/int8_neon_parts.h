// What int8_neon.cc and int8_neondot.cc share: everything but the dot product of the GEMM. No heavy headers, an anonymous namespace: see isa.h.
#ifndef TFLITE_SMART_KERNELS_INT8_NEON_PARTS_H_
#define TFLITE_SMART_KERNELS_INT8_NEON_PARTS_H_

#include <arm_neon.h>

#include "kernels/int8_kernels.h"

namespace tflite_smart {
namespace {

struct Vec {
#if defined(__aarch64__)
  static constexpr int kLanes = 4, kGemmRows = 4, kBlockVecs = 4, kLanePositions = 4;
#else
  static constexpr int kLanes = 4, kGemmRows = 4, kBlockVecs = 2, kLanePositions = 2;
#endif
  int32x4_t v;

  static Vec Zero() { return {vdupq_n_s32(0)}; }
  static Vec Load(const void* p) { return {vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p)))}; }
  void Store(int32_t* p) const { vst1q_s32(p, v); }
};

constexpr bool kHalfBlocks = false;

inline Vec Add(Vec a, Vec b) { return {vaddq_s32(a.v, b.v)}; }

// A register of B is one k of four channels, then the next k of them: no interleaving.
inline Vec DotPair(Vec sum, Vec a, Vec b) {
  const int16x8_t x = vreinterpretq_s16_s32(a.v), w = vreinterpretq_s16_s32(b.v);
  return {vmlal_s16(vmlal_s16(sum.v, vget_low_s16(x), vget_low_s16(w)), vget_high_s16(x), vget_high_s16(w))};
}

struct Requantizer {
  int32x4_t multiplier, shift;

  static bool Takes(const Int8Epilogue& e) { return e.factors->small && !e.factors->real; }

  void Load(const Int8Epilogue& e, int channel) {
    multiplier = vld1q_s32(e.factors->multiplier + channel);
    shift = vld1q_s32(e.factors->shift + channel);
  }

  // A rounding shift rounds halves up; one less for negative values makes that away from zero.
  Vec Run(Vec x) const {
    const int32x4_t high = vqrdmulhq_s32(x.v, multiplier);
    return {vrshlq_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), shift)};
  }

  bool doubts() const { return false; }
};

struct ByteWriter {
  int16x8_t zero_point;
  int8x8_t min, max;

  explicit ByteWriter(const Int8Epilogue& e)
      : zero_point(vdupq_n_s16(static_cast<int16_t>(e.zero_point))),
        min(vdup_n_s8(static_cast<int8_t>(e.min))),
        max(vdup_n_s8(static_cast<int8_t>(e.max))) {}

  void Write(const Vec (&y)[Vec::kBlockVecs], int8_t* to) const {
    for (int i = 0; i < Vec::kBlockVecs; i += 2) {
      const int16x8_t words = vqaddq_s16(vcombine_s16(vqmovn_s32(y[i].v), vqmovn_s32(y[i + 1].v)), zero_point);
      vst1_s8(to + i * Vec::kLanes, vmin_s8(max, vmax_s8(min, vqmovn_s16(words))));
    }
  }
};

struct FloatWriter {
  float32x4_t scale, bias, min, max, factor;
  int32x4_t ids, zero;

  void Load(const FloatEpilogue& e, int channel) {
    scale = vld1q_f32(e.scale + channel);
    bias = vld1q_f32(e.bias + channel);
    ids = vld1q_s32(e.ids + channel);
    min = vdupq_n_f32(e.min);
    max = vdupq_n_f32(e.max);
  }

  void SetRow(const Quantization& q) {
    zero = vmulq_n_s32(ids, q.zero_point);
    factor = vmulq_n_f32(scale, q.scale);
  }

  void Write(Vec sum, float* to) const {
    const float32x4_t y = vaddq_f32(vmulq_f32(vcvtq_f32_s32(vsubq_s32(sum.v, zero)), factor), bias);
    vst1q_f32(to, vminq_f32(max, vmaxq_f32(min, y)));
  }
};

// Eight floats to int16, rounded to the nearest, halves to even, with the zero point. The number added is as in int8_scalar.cc, as 32-bit Arm has no such
// conversion.
inline int16x8_t Quantize8(const float* x, const Quantization& q) {
  const float32x4_t magic = vdupq_n_f32(12582912.0f);
  const float32x4_t low = vaddq_f32(vmulq_n_f32(vld1q_f32(x), q.inverse), magic);
  const float32x4_t high = vaddq_f32(vmulq_n_f32(vld1q_f32(x + 4), q.inverse), magic);
  const int32x4_t zero = vreinterpretq_s32_f32(magic);
  const int16x8_t words = vcombine_s16(vqmovn_s32(vsubq_s32(vreinterpretq_s32_f32(low), zero)), vqmovn_s32(vsubq_s32(vreinterpretq_s32_f32(high), zero)));
  return vqaddq_s16(words, vdupq_n_s16(static_cast<int16_t>(q.zero_point)));
}

// A row in blocks of eight; `store(block, first)` writes one.
template <typename Store>
inline void QuantizeBlocks(const float* from, size_t count, const Quantization& q, const Store& store) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) store(Quantize8(from + i, q), i);
  if (i == count) return;
  float last[8] = {};
  __builtin_memcpy(last, from + i, (count - i) * sizeof(float));
  store(Quantize8(last, q), i);
}

#include "kernels/int8_range-inl.h"

void WidenRange(const float* x, size_t count, float* range) {
  float32x4_t min = vdupq_n_f32(range[0]), max = vdupq_n_f32(range[1]), none = vdupq_n_f32(0.0f);  // none: see int8_range-inl.h
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const float32x4_t y = vld1q_f32(x + i);
    min = vminq_f32(min, y);
    max = vmaxq_f32(max, y);
    none = vmlaq_n_f32(none, y, 0.0f);
  }
  float found[12];
  vst1q_f32(found, min);
  vst1q_f32(found + 4, max);
  vst1q_f32(found + 8, none);
  WidenRangeOneByOne(x + i, count - i, range);
  WidenRangeOneByOne(found, 12, range);
}

struct Pair {
  Vec parts[Vec::kBlockVecs];

  static Pair Load(const int8_t* a0, const int8_t* a1) {
    Pair pair;
    for (int i = 0; i < Vec::kBlockVecs; i += 2) {
      const int16x8_t x0 = vmovl_s8(vld1_s8(a0 + i * Vec::kLanes)), x1 = vmovl_s8(vld1_s8(a1 + i * Vec::kLanes));
      pair.parts[i].v = vreinterpretq_s32_s16(vcombine_s16(vget_low_s16(x0), vget_low_s16(x1)));
      pair.parts[i + 1].v = vreinterpretq_s32_s16(vcombine_s16(vget_high_s16(x0), vget_high_s16(x1)));
    }
    return pair;
  }
  Vec Part(int i) const { return parts[i]; }
};

}  // namespace
}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_NEON_PARTS_H_
