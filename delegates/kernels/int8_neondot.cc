// gemm_int8_4x16_neondot: sdot multiplies four k at a time. From Armv8.2 on, Cortex-A55 and A75 and later.
#include "kernels/int8_neon_parts.h"

namespace tflite_smart {
namespace {

constexpr uint32_t kGroup = 4;
constexpr int32_t kOffset = 0;

inline Vec Dot(Vec sum, Vec a, Vec b) { return {vdotq_s32(sum.v, vreinterpretq_s8_s32(a.v), vreinterpretq_s8_s32(b.v))}; }

inline Vec Broadcast(const void* dword) {
  int32_t x;
  __builtin_memcpy(&x, dword, sizeof(x));
  return {vdupq_n_s32(x)};
}

void Pack(const int8_t* from, size_t count, uint8_t* to) { __builtin_memcpy(to, from, count); }

void Quantize(const float* from, size_t count, const Quantization& q, uint8_t* to) {
  QuantizeBlocks(from, count, q, [&](int16x8_t words, size_t i) { vst1_u8(to + i, vreinterpret_u8_s8(vqmovn_s16(words))); });
}

inline void LoadDwords(const int8_t* ids, Vec (&b)[Vec::kBlockVecs]) {
  const int8x16x2_t rows01 = vzipq_s8(vld1q_s8(ids), vld1q_s8(ids + 32)), rows23 = vzipq_s8(vld1q_s8(ids + 64), vld1q_s8(ids + 96));
  for (int i = 0; i < 2; ++i) {
    const int16x8x2_t dwords = vzipq_s16(vreinterpretq_s16_s8(rows01.val[i]), vreinterpretq_s16_s8(rows23.val[i]));
    b[2 * i].v = vreinterpretq_s32_s16(dwords.val[0]);
    b[2 * i + 1].v = vreinterpretq_s32_s16(dwords.val[1]);
  }
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/int8_kernels-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Neondot, Vec::kGemmRows, Gemm, nullptr)
