// gemm_int8_4x16_neon: without the dot product extension. Both sides are int16, vmlal multiplies one k at a time, exactly.
#include "kernels/int8_neon_parts.h"

namespace tflite_smart {
namespace {

constexpr uint32_t kGroup = 2;
constexpr int32_t kOffset = 0;

inline Vec Dot(Vec sum, Vec a, Vec b) { return DotPair(sum, a, b); }

// Two int16: the low half of the register holds the first four times, the high half the second.
inline Vec Broadcast(const void* dword) {
  int16_t x[2];
  __builtin_memcpy(x, dword, sizeof(x));
  return {vreinterpretq_s32_s16(vcombine_s16(vdup_n_s16(x[0]), vdup_n_s16(x[1])))};
}

void Pack(const int8_t* from, size_t count, uint8_t* to) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) vst1q_u8(to + 2 * i, vreinterpretq_u8_s16(vmovl_s8(vld1_s8(from + i))));
  for (; i < count; ++i) {
    const int16_t x = from[i];
    __builtin_memcpy(to + 2 * i, &x, sizeof(x));
  }
}

void Quantize(const float* from, size_t count, const Quantization& q, uint8_t* to) {
  const int16x8_t min = vdupq_n_s16(INT8_MIN), max = vdupq_n_s16(INT8_MAX);
  QuantizeBlocks(from, count, q, [&](int16x8_t words, size_t i) { vst1q_u8(to + 2 * i, vreinterpretq_u8_s16(vminq_s16(max, vmaxq_s16(min, words)))); });
}

inline void LoadDwords(const int8_t* ids, Vec (&b)[Vec::kBlockVecs]) {
  const Pair pair = Pair::Load(ids, ids + 32);
  for (int v = 0; v < Vec::kBlockVecs; ++v) b[v] = pair.Part(v);
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/int8_kernels-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Neon, Vec::kGemmRows, Gemm, nullptr)
