// gemm_int8_12x32_avx512: 24 of the 32 registers are accumulators, vpdpbusd multiplies four k at a time.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own _mm512_undefined_epi32()
#endif
#include <immintrin.h>

#include "kernels/int8_kernels.h"

namespace tflite_smart {
namespace {

struct Vec {
  static constexpr int kLanes = 16, kGemmRows = 12, kBlockVecs = 2, kLanePositions = 4;
  __m512i v;

  static Vec Zero() { return {_mm512_setzero_si512()}; }
  static Vec Load(const void* p) { return {_mm512_loadu_si512(p)}; }
  void Store(int32_t* p) const { _mm512_storeu_si512(p, v); }
};

constexpr uint32_t kGroup = 4;
constexpr int32_t kOffset = 128;

constexpr bool kHalfBlocks = true;

inline Vec Broadcast(const void* dword) {
  int32_t x;
  __builtin_memcpy(&x, dword, sizeof(x));
  return {_mm512_set1_epi32(x)};
}

// Four rows of 32 ids are two registers.
struct DwordOrder {
  alignas(64) uint8_t index[2][64];

  constexpr DwordOrder() : index() {
    for (int i = 0; i < 128; ++i) index[i / 64][i % 64] = static_cast<uint8_t>(i % 4 * 32 + i / 4);
  }
};
constexpr DwordOrder kDwordOrder;

inline void LoadDwords(const int8_t* ids, Vec (&b)[Vec::kBlockVecs]) {
  const __m512i rows01 = _mm512_loadu_si512(ids), rows23 = _mm512_loadu_si512(ids + 64);
  for (int v = 0; v < 2; ++v) b[v] = {_mm512_permutex2var_epi8(rows01, _mm512_load_si512(kDwordOrder.index[v]), rows23)};
}

inline Vec Add(Vec a, Vec b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline Vec Dot(Vec sum, Vec a, Vec b) { return {_mm512_dpbusd_epi32(sum.v, a.v, b.v)}; }
inline Vec DotPair(Vec sum, Vec a, Vec b) { return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)}; }

// In floats. What is rounded errs by 3 * 2^-24 of itself, which is below kMargin up to 341, so only what comes as near as that to the middle of two
// integers may be rounded wrong. Further out every result is beyond an int8, zero point and all.
struct Requantizer {
  static constexpr float kMargin = 1.0f / 16384;
  __m512 factor, nudge;
  __m512 worst = _mm512_setzero_ps();  // largest distance from an integer

  static bool Takes(const Int8Epilogue& e) { return e.factors->small; }

  void Load(const Int8Epilogue& e, int channel) {
    factor = _mm512_loadu_ps(e.factors->factor + channel);
    nudge = _mm512_loadu_ps(e.factors->nudge + channel);
  }

  Vec Run(Vec sum) {
    constexpr int kAndOr = 0xea;       // of vpternlogd: a & b | c
    constexpr int kLargestSize = 0x3;  // of vrangeps: the one whose absolute value is larger
    const __m512 x = _mm512_cvtepi32_ps(sum.v);
    const __m512i away = _mm512_ternarylogic_epi32(sum.v, _mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(nudge), kAndOr);
    const __m512 y = _mm512_fmadd_ps(x, factor, _mm512_castsi512_ps(away));
    worst = _mm512_range_ps(worst, _mm512_reduce_ps(y, _MM_FROUND_TO_NEAREST_INT), kLargestSize);
    return {_mm512_cvtps_epi32(y)};
  }

  bool doubts() const { return _mm512_cmp_ps_mask(worst, _mm512_set1_ps(0.5f - kMargin), _CMP_GT_OQ) != 0; }
};

struct ByteWriter {
  __m512i zero_point;
  __m256i min, max;

  explicit ByteWriter(const Int8Epilogue& e)
      : zero_point(_mm512_set1_epi16(static_cast<int16_t>(e.zero_point))),
        min(_mm256_set1_epi8(static_cast<int8_t>(e.min))),
        max(_mm256_set1_epi8(static_cast<int8_t>(e.max))) {}

  void Write(const Vec (&y)[Vec::kBlockVecs], int8_t* to) const {
    const __m256i mixed = _mm512_cvtsepi16_epi8(_mm512_adds_epi16(_mm512_packs_epi32(y[0].v, y[1].v), zero_point));
    const __m256i bytes = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));  // packs works inside each 16 bytes
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_min_epi8(_mm256_max_epi8(bytes, min), max));
  }

  void Write(const Vec (&y)[Vec::kBlockVecs / 2], int8_t* to) const {
    const __m256i words = _mm256_adds_epi16(_mm512_cvtsepi32_epi16(y[0].v), _mm512_castsi512_si256(zero_point));
    const __m128i bytes = _mm256_cvtsepi16_epi8(words);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_min_epi8(_mm_max_epi8(bytes, _mm256_castsi256_si128(min)), _mm256_castsi256_si128(max)));
  }
};

struct FloatWriter {
  __m512 scale, bias, min, max, factor;
  __m512i ids, zero;

  void Load(const FloatEpilogue& e, int channel) {
    scale = _mm512_loadu_ps(e.scale + channel);
    bias = _mm512_loadu_ps(e.bias + channel);
    ids = _mm512_loadu_si512(e.ids + channel);
    min = _mm512_set1_ps(e.min);
    max = _mm512_set1_ps(e.max);
  }

  void SetRow(const Quantization& q) {
    zero = _mm512_mullo_epi32(_mm512_set1_epi32(q.zero_point + kOffset), ids);
    factor = _mm512_mul_ps(_mm512_set1_ps(q.scale), scale);
  }

  void Write(Vec sum, float* to) const {
    const __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum.v, zero)), factor), bias);
    _mm512_storeu_ps(to, _mm512_min_ps(max, _mm512_max_ps(min, y)));  // in this order a NaN survives
  }
};

struct Pair {
  __m512i low, high;

  static Pair Load(const int8_t* a0, const int8_t* a1) {
    const __m512i x0 = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a0)));
    const __m512i x1 = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a1)));
    alignas(64) static constexpr uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i order = _mm512_load_si512(kLow);
    return {_mm512_permutex2var_epi16(x0, order, x1), _mm512_permutex2var_epi16(x0, _mm512_add_epi16(order, _mm512_set1_epi16(16)), x1)};
  }
  Vec Part(int i) const { return {i == 0 ? low : high}; }
};

void Pack(const int8_t* from, size_t count, uint8_t* to) {
  for (size_t i = 0; i < count; i += 64) {
    const __mmask64 mask = count - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (count - i)) - 1;
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, from + i);
    _mm512_storeu_si512(to + i, _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)));
  }
}

inline __m512i Round(__m512 x, __m512 inverse) { return _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)); }

void Quantize(const float* from, size_t count, const Quantization& q, uint8_t* to) {
  const __m512 inverse = _mm512_set1_ps(q.inverse);
  const __m512i zero_point = _mm512_set1_epi32(q.zero_point + kOffset), zero_words = _mm512_set1_epi16(static_cast<int16_t>(q.zero_point + kOffset));
  // What packing inside each 16 bytes has mixed up.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i x0 = Round(_mm512_loadu_ps(from + i), inverse), x1 = Round(_mm512_loadu_ps(from + i + 16), inverse);
    const __m512i x2 = Round(_mm512_loadu_ps(from + i + 32), inverse), x3 = Round(_mm512_loadu_ps(from + i + 48), inverse);
    const __m512i x01 = _mm512_adds_epi16(_mm512_packs_epi32(x0, x1), zero_words), x23 = _mm512_adds_epi16(_mm512_packs_epi32(x2, x3), zero_words);
    _mm512_storeu_si512(to + i, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(x01, x23)));
  }
  for (; i < count; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(count - i >= 16 ? 0xffff : (1u << (count - i)) - 1);
    const __m512i x = _mm512_add_epi32(Round(_mm512_maskz_loadu_ps(mask, from + i), inverse), zero_point);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtusepi32_epi8(_mm512_max_epi32(x, _mm512_setzero_si512())));
  }
}

void WidenRange(const float* x, size_t count, float* range) {
  constexpr int kVecs = 4;  // or latencies would be all that is seen
  const __m512 zero = _mm512_setzero_ps();
  __m512 min[kVecs], max[kVecs], none[kVecs];  // none: see int8_range-inl.h
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    min[v] = _mm512_set1_ps(range[0]);
    max[v] = _mm512_set1_ps(range[1]);
    none[v] = zero;
  }
  size_t i = 0;
  for (; i + kVecs * 16 <= count; i += kVecs * 16) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const __m512 y = _mm512_loadu_ps(x + i + v * 16);
      min[v] = _mm512_min_ps(min[v], y);
      max[v] = _mm512_max_ps(max[v], y);
      none[v] = _mm512_fmadd_ps(y, zero, none[v]);
    }
  }
  for (; i < count; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(count - i >= 16 ? 0xffff : (1u << (count - i)) - 1);
    const __m512 y = _mm512_maskz_loadu_ps(mask, x + i);
    min[0] = _mm512_mask_min_ps(min[0], mask, min[0], y);
    max[0] = _mm512_mask_max_ps(max[0], mask, max[0], y);
    none[0] = _mm512_fmadd_ps(y, zero, none[0]);
  }
  range[0] = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(min[0], min[1]), _mm512_min_ps(min[2], min[3])));
  range[1] = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]))) +
             _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(none[0], none[1]), _mm512_add_ps(none[2], none[3])));
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/int8_kernels-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Avx512, Vec::kGemmRows, Gemm, MultiplyPlanesAvx512)

#if defined(TFS_AMX)
#include "kernels/int8_amx-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Amx, kTileRows, GemmAmx, MultiplyPlanesAvx512)
#endif
