// gemm_f32_6x16_avx2: 12 of the 16 registers are accumulators.
#include <immintrin.h>

#include <cstdint>

namespace tflite_smart {
namespace {

struct Vec {
  static constexpr int kLanes = 8, kRegisters = 16, kGemmRows = 6, kGemmVecs = 2;
  __m256 v;

  static Vec Zero() { return {_mm256_setzero_ps()}; }
  static Vec Set(float x) { return {_mm256_set1_ps(x)}; }
  static Vec Load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec LoadIds(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vec LoadFirst(const float* p, uint32_t n) { return {_mm256_maskload_ps(p, First(n))}; }
  void Store(float* p) const { _mm256_storeu_ps(p, v); }
  void StoreFirst(float* p, uint32_t n) const { _mm256_maskstore_ps(p, First(n), v); }
  static __m256i First(uint32_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

inline Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }

}  // namespace
}  // namespace tflite_smart

#include "kernels/float_kernels-inl.h"

TFLITE_SMART_FLOAT_KERNELS(kFloatAvx2, MultiplyIds)
