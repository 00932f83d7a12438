// gemm_int8_6x16_avx2: without VNNI. vpmaddubsw would saturate, so both sides are widened to int16 and vpmaddwd multiplies two k at a
// time, exactly.
#include <immintrin.h>

#include "kernels/int8_kernels.h"

namespace tflite_smart {
namespace {

struct Vec {
  static constexpr int kLanes = 8, kGemmRows = 6, kBlockVecs = 2, kLanePositions = 4;
  __m256i v;

  static Vec Zero() { return {_mm256_setzero_si256()}; }
  static Vec Load(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
  void Store(int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};

constexpr uint32_t kGroup = 2;
constexpr int32_t kOffset = 0;

constexpr bool kHalfBlocks = false;

inline Vec Broadcast(const void* dword) {
  int32_t x;
  __builtin_memcpy(&x, dword, sizeof(x));
  return {_mm256_set1_epi32(x)};
}

inline Vec Add(Vec a, Vec b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline Vec Dot(Vec sum, Vec a, Vec b) { return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))}; }
inline Vec DotPair(Vec sum, Vec a, Vec b) { return Dot(sum, a, b); }

inline __m256i LoadChannels(const int32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

// In floats: see int8_avx512.cc.
struct Requantizer {
  static constexpr float kMargin = 1.0f / 16384;
  __m256 factor, nudge;
  __m256 worst = _mm256_setzero_ps();  // largest distance from an integer

  static bool Takes(const Int8Epilogue& e) { return e.factors->small; }

  void Load(const Int8Epilogue& e, int channel) {
    factor = _mm256_loadu_ps(e.factors->factor + channel);
    nudge = _mm256_loadu_ps(e.factors->nudge + channel);
  }

  Vec Run(Vec sum) {
    const __m256 sign = _mm256_set1_ps(-0.0f), away = _mm256_or_ps(_mm256_and_ps(_mm256_castsi256_ps(sum.v), sign), nudge);
    const __m256 y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum.v), factor, away);
    const __m256 distance = _mm256_sub_ps(y, _mm256_round_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    worst = _mm256_max_ps(worst, _mm256_andnot_ps(sign, distance));
    return {_mm256_cvtps_epi32(y)};
  }

  bool doubts() const { return _mm256_movemask_ps(_mm256_cmp_ps(worst, _mm256_set1_ps(0.5f - kMargin), _CMP_GT_OQ)) != 0; }
};

struct ByteWriter {
  __m256i zero_point;
  __m128i min, max;

  explicit ByteWriter(const Int8Epilogue& e)
      : zero_point(_mm256_set1_epi16(static_cast<int16_t>(e.zero_point))),
        min(_mm_set1_epi8(static_cast<int8_t>(e.min))),
        max(_mm_set1_epi8(static_cast<int8_t>(e.max))) {}

  void Write(const Vec (&y)[Vec::kBlockVecs], int8_t* to) const {
    const __m256i words = _mm256_adds_epi16(_mm256_packs_epi32(y[0].v, y[1].v), zero_point);
    const __m128i mixed = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    const __m128i bytes = _mm_shuffle_epi32(mixed, 0xd8);  // vpackssdw works inside each 16 bytes
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_min_epi8(_mm_max_epi8(bytes, min), max));
  }
};

struct FloatWriter {
  __m256 scale, bias, min, max, factor;
  __m256i ids, zero;

  void Load(const FloatEpilogue& e, int channel) {
    scale = _mm256_loadu_ps(e.scale + channel);
    bias = _mm256_loadu_ps(e.bias + channel);
    ids = LoadChannels(e.ids + channel);
    min = _mm256_set1_ps(e.min);
    max = _mm256_set1_ps(e.max);
  }

  void SetRow(const Quantization& q) {
    zero = _mm256_mullo_epi32(_mm256_set1_epi32(q.zero_point + kOffset), ids);
    factor = _mm256_mul_ps(_mm256_set1_ps(q.scale), scale);
  }

  void Write(Vec sum, float* to) const {
    const __m256 y = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum.v, zero)), factor), bias);
    _mm256_storeu_ps(to, _mm256_min_ps(max, _mm256_max_ps(min, y)));  // in this order a NaN survives
  }
};

inline __m256i Widen(const int8_t* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

struct Pair {
  __m256i low, high;

  static Pair Load(const int8_t* a0, const int8_t* a1) {
    const __m128i x0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a0)), x1 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a1));
    return {_mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x0, x1)), _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x0, x1))};
  }
  Vec Part(int i) const { return {i == 0 ? low : high}; }
};

void Pack(const int8_t* from, size_t count, uint8_t* to) {
  for (size_t i = 0; i < count; i += 16) {
    int8_t last[16];
    const int8_t* x = from + i;
    if (count - i < 16) x = static_cast<const int8_t*>(__builtin_memcpy(last, x, count - i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * i), Widen(x));
  }
}

void Quantize(const float* from, size_t count, const Quantization& q, uint8_t* to) {
  const __m256 inverse = _mm256_set1_ps(q.inverse);
  const __m256i zero_point = _mm256_set1_epi16(static_cast<int16_t>(q.zero_point));
  const __m256i min = _mm256_set1_epi16(INT8_MIN), max = _mm256_set1_epi16(INT8_MAX);
  for (size_t i = 0; i < count; i += 16) {
    float last[16];
    const float* x = from + i;
    if (count - i < 16) x = static_cast<const float*>(__builtin_memcpy(last, x, (count - i) * sizeof(float)));
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
    const __m256i words = _mm256_adds_epi16(_mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8), zero_point);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * i), _mm256_min_epi16(_mm256_max_epi16(words, min), max));
  }
}

#include "kernels/int8_range-inl.h"

void WidenRange(const float* x, size_t count, float* range) {
  __m256 min = _mm256_set1_ps(range[0]), max = _mm256_set1_ps(range[1]), none = _mm256_setzero_ps();  // none: see int8_range-inl.h
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 y = _mm256_loadu_ps(x + i);
    min = _mm256_min_ps(min, y);
    max = _mm256_max_ps(max, y);
    none = _mm256_add_ps(none, _mm256_mul_ps(y, _mm256_setzero_ps()));
  }
  float found[24];
  _mm256_storeu_ps(found, min);
  _mm256_storeu_ps(found + 8, max);
  _mm256_storeu_ps(found + 16, none);
  WidenRangeOneByOne(x + i, count - i, range);
  WidenRangeOneByOne(found, 24, range);
}

inline void LoadDwords(const int8_t* ids, Vec (&b)[Vec::kBlockVecs]) {
  const Pair pair = Pair::Load(ids, ids + 32);
  b[0] = pair.Part(0);
  b[1] = pair.Part(1);
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/int8_kernels-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Avx2, Vec::kGemmRows, Gemm, nullptr)
