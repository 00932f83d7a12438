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

// st4 writes four rows of 16 ids as 16 dwords.
void PackPanel(const int8_t* ids, size_t groups, uint8_t* to, int32_t* sums) {
  const Vec ones = {vreinterpretq_s32_s8(vdupq_n_s8(1))};
  for (size_t g = 0; g < groups; ++g) {
    for (int first = 0; first < 32; first += 16) {
      const int8_t* from = ids + g * 128 + first;
      uint8_t* const block = to + g * kInt8GroupBytes + first * sizeof(int32_t);
      const int8x16x4_t rows = {{vld1q_s8(from), vld1q_s8(from + 32), vld1q_s8(from + 64), vld1q_s8(from + 96)}};
      vst4q_s8(reinterpret_cast<int8_t*>(block), rows);
      for (int v = 0; v < 4; ++v) {
        const int channel = first + v * Vec::kLanes;
        Dot(Vec::Load(sums + channel), ones, Vec::Load(block + v * 16)).Store(sums + channel);
      }
    }
  }
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/int8_kernels-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Neondot)
