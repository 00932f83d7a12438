// gemm_f32_12x32_avx512: 24 of the 32 registers are accumulators.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own _mm512_undefined_ps()
#endif
#include <immintrin.h>

#include <cstdint>

namespace tflite_smart {
namespace {

struct Vec {
  static constexpr int kLanes = 16, kRegisters = 32, kGemmRows = 12, kGemmVecs = 2;
  __m512 v;

  static Vec Zero() { return {_mm512_setzero_ps()}; }
  static Vec Set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec LoadIds(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec LoadFirst(const float* p, uint32_t n) { return {_mm512_maskz_loadu_ps(First(n), p)}; }
  void Store(float* p) const { _mm512_storeu_ps(p, v); }
  void StoreFirst(float* p, uint32_t n) const { _mm512_mask_storeu_ps(p, First(n), v); }
  static __mmask16 First(uint32_t n) { return static_cast<__mmask16>((1u << n) - 1); }
};

inline Vec Add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }

}  // namespace
}  // namespace tflite_smart

#include "kernels/float_kernels-inl.h"

#include "kernels/float_digits-inl.h"

TFLITE_SMART_FLOAT_KERNELS(kFloatAvx512, MultiplyIdsByDigits)
