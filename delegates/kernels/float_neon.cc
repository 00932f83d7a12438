// gemm_f32_6x16_neon on aarch64 (24 of 32 registers are accumulators), gemm_f32_4x8_neon on 32-bit ARM (8 of 16).
#include <arm_neon.h>

#include <cstdint>

namespace tflite_smart {
namespace {

struct Vec {
#if defined(__aarch64__)
  static constexpr int kLanes = 4, kRegisters = 32, kGemmRows = 6, kGemmVecs = 4;
#else
  static constexpr int kLanes = 4, kRegisters = 16, kGemmRows = 4, kGemmVecs = 2;
#endif
  float32x4_t v;

  static Vec Zero() { return {vdupq_n_f32(0.0f)}; }
  static Vec Set(float x) { return {vdupq_n_f32(x)}; }
  static Vec Load(const float* p) { return {vld1q_f32(p)}; }
  static Vec LoadIds(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)))};
  }
  static Vec LoadFirst(const float* p, uint32_t n) {
    float all[kLanes] = {};
    __builtin_memcpy(all, p, n * sizeof(float));
    return Load(all);
  }
  void Store(float* p) const { vst1q_f32(p, v); }
  void StoreFirst(float* p, uint32_t n) const {
    float all[kLanes];
    Store(all);
    __builtin_memcpy(p, all, n * sizeof(float));
  }
};

inline Vec Add(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
inline Vec Mul(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
#if defined(__ARM_FEATURE_FMA)
inline Vec MulAdd(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
#else
inline Vec MulAdd(Vec a, Vec b, Vec c) { return {vmlaq_f32(c.v, a.v, b.v)}; }
#endif
inline Vec Min(Vec a, Vec b) { return {vminq_f32(a.v, b.v)}; }
inline Vec Max(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }

}  // namespace
}  // namespace tflite_smart

#include "kernels/float_kernels-inl.h"

TFLITE_SMART_FLOAT_KERNELS(kFloatNeon, MultiplyIds)
