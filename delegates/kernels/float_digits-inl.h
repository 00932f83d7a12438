// One row of floats times ids without a float for every id: the row's numbers, taken 128 at a time, become multiples of one power of two, integers of 31 bits, which are four signed
// digits to the base 256. VNNI multiplies the ids with one digit of four numbers at once, and the digits' sums are exact. So every number errs by at most 2^-30 of the largest of its 128, where
// floats round every sum by 2^-24 of it. Behind float_kernels-inl.h, for AVX-512. No include guard on purpose.
namespace tflite_smart {
namespace {

constexpr uint32_t kDigits = 4, kDwordRows = 4;

// The numbers' digits: of four numbers the lowest one of each, then the next ones. sums: of each digit, times 128.
struct DigitRow {
  alignas(64) int8_t digits[kMaxRowPiece * kDigits];
  int32_t sums[kDigits];
  float unit;

  // False if they are not all finite, or all so small that no power of two brings them there.
  bool Set(const float* x, size_t k) {
    const __m512 zero = _mm512_setzero_ps();
    __m512 largest = zero, none = zero;  // none: NaN where something is none
    for (size_t i = 0; i < k; i += 16) {
      const __m512 y = _mm512_abs_ps(_mm512_maskz_loadu_ps(Used(k - i), x + i));
      largest = _mm512_max_ps(largest, y);
      none = _mm512_fmadd_ps(y, zero, none);
    }
    if (_mm512_cmp_ps_mask(none, none, _CMP_UNORD_Q) != 0) return false;
    const float scale = ScaleOf(_mm512_reduce_max_ps(largest));
    if (scale == 0.0f) return false;
    unit = 1.0f / scale;
    const __m512i signs = _mm512_set1_epi32(static_cast<int>(0x80808080u));
    const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);  // the first digit of four numbers, the second ...
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < k; i += 16) {
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(Used(k - i), x + i), _mm512_set1_ps(scale)));
      const __m512i balanced = _mm512_shuffle_epi8(_mm512_xor_si512(_mm512_add_epi32(q, signs), signs), order);
      _mm512_store_si512(digits + i * kDigits, balanced);
      sum = _mm512_dpbusd_epi32(sum, signs, balanced);
    }
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
    return true;
  }

 private:
  static __mmask16 Used(size_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1); }

  // The power of two that brings the largest number just below 2^30, or 0.
  static float ScaleOf(float largest) {
    constexpr uint32_t kBits = 30, kBias = 127, kMantissaBits = 23, kLargestExponent = 252;  // one over it is no denormal
    uint32_t bits;
    __builtin_memcpy(&bits, &largest, sizeof(bits));
    const uint32_t exponent = kBits - 1 + 2 * kBias - (bits >> kMantissaBits);
    bits = exponent > kLargestExponent ? 0 : exponent << kMantissaBits;
    float scale;
    __builtin_memcpy(&scale, &bits, sizeof(scale));
    return scale;
  }
};

// Four rows of 32 ids plus 128, as dwords of 16 channels.
inline void LoadDwords(const int8_t* ids, __m512i (&dwords)[2]) {
  const __m512i offset = _mm512_set1_epi8(-128);
  const __m512i rows01 = _mm512_xor_si512(_mm512_loadu_si512(ids), offset), rows23 = _mm512_xor_si512(_mm512_loadu_si512(ids + 64), offset);
  // Words of two rows, so that the channels of a 16 byte lane are those that the dwords of that lane, low and high, shall have.
  alignas(64) static constexpr uint8_t kWords[64] = {0,  32, 1,  33, 2,  34, 3,  35, 16, 48, 17, 49, 18, 50, 19, 51, 4,  36, 5,  37, 6,  38, 7,  39, 20, 52, 21, 53, 22, 54, 23, 55,
                                                     8,  40, 9,  41, 10, 42, 11, 43, 24, 56, 25, 57, 26, 58, 27, 59, 12, 44, 13, 45, 14, 46, 15, 47, 28, 60, 29, 61, 30, 62, 31, 63};
  const __m512i order = _mm512_load_si512(kWords);
  const __m512i words01 = _mm512_permutexvar_epi8(order, rows01), words23 = _mm512_permutexvar_epi8(order, rows23);
  dwords[0] = _mm512_unpacklo_epi16(words01, words23);
  dwords[1] = _mm512_unpackhi_epi16(words01, words23);
}

// Four rows of ids with the digits of their numbers.
inline void AddFour(const int8_t* ids, const int8_t* digits, __m512i (&low)[kDigits], __m512i (&high)[kDigits]) {
  __m512i dwords[2];
  LoadDwords(ids, dwords);
#pragma GCC unroll 4
  for (uint32_t d = 0; d < kDigits; ++d) {
    int32_t four;
    __builtin_memcpy(&four, digits + d * sizeof(four), sizeof(four));
    const __m512i x = _mm512_set1_epi32(four);
    low[d] = _mm512_dpbusd_epi32(low[d], dwords[0], x);
    high[d] = _mm512_dpbusd_epi32(high[d], dwords[1], x);
  }
}

// Sixteen sums to floats.
inline void Finish(const __m512i (&sum)[kDigits], float unit, float* to) {
  __m512 y = _mm512_cvtepi32_ps(sum[kDigits - 1]);
#pragma GCC unroll 4
  for (uint32_t d = kDigits - 1; d-- > 0;) y = _mm512_fmadd_ps(y, _mm512_set1_ps(256.0f), _mm512_cvtepi32_ps(sum[d]));
  _mm512_storeu_ps(to, _mm512_fmadd_ps(y, _mm512_set1_ps(unit), _mm512_loadu_ps(to)));
}

void MultiplyDigits(const int8_t* ids, const DigitRow& row, size_t k, float* sums) {
  __m512i low[kDigits], high[kDigits];
#pragma GCC unroll 4
  for (uint32_t d = 0; d < kDigits; ++d) low[d] = high[d] = _mm512_set1_epi32(-row.sums[d]);
  int8_t last[kDwordRows * kPanel] = {};
  for (size_t i = 0; i < k; i += kDwordRows) {
    const int8_t* four = ids + i * kPanel;
    if (k - i < kDwordRows) four = static_cast<const int8_t*>(__builtin_memcpy(last, four, (k - i) * kPanel));
    AddFour(four, row.digits + i * kDigits, low, high);
  }
  Finish(low, row.unit, sums);
  Finish(high, row.unit, sums + kPanel / 2);
}

void MultiplyIdsByDigits(const int8_t* const* ids, uint32_t tiles, const float* a, size_t k, float offset, float (*sums)[kPanel]) {
  DigitRow row;
  if (offset != 0.0f || !row.Set(a, k)) return MultiplyIds(ids, tiles, a, k, offset, sums);
  for (uint32_t t = 0; t < tiles; ++t) MultiplyDigits(ids[t], row, k, sums[t]);
}

}  // namespace
}  // namespace tflite_smart
