// AVX-512 (F, BW, VL, VBMI, VBMI2: Ice Lake, Zen 4 and later): planes are mask registers as they lie in memory, and vpexpandb hands
// out the stream's bytes. No branch depends on the data.
#include "kernels/decode_x86-inl.h"

namespace tflite_smart {
namespace {

struct Avx512 {
  using Condition = __mmask32;

  static TFS_INLINE Condition FromPlane(uint32_t plane) { return plane; }
  static TFS_INLINE Condition Equal(__m256i a, __m256i b) { return _mm256_cmpeq_epi8_mask(a, b); }
  static TFS_INLINE uint32_t Mask(Condition condition) { return condition; }
  static TFS_INLINE __m256i Choose(Condition condition, __m256i yes, __m256i no) { return _mm256_mask_mov_epi8(no, condition, yes); }

  static TFS_INLINE __m256i AppendPlane(__m256i codes, uint32_t plane) {
    codes = _mm256_add_epi8(codes, codes);
    return _mm256_mask_sub_epi8(codes, plane, codes, _mm256_set1_epi8(-1));
  }

  static TFS_INLINE __m256i ExpandUp(__m256i into, Condition condition, const uint8_t* p) {
    return _mm256_mask_expand_epi8(into, condition, LoadIds(p));
  }

  static TFS_INLINE __m256i ExpandDown(__m256i into, Condition condition, const uint8_t* p) {
    const __m256i reverse = _mm256_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
                                            25, 26, 27, 28, 29, 30, 31);
    return _mm256_mask_expand_epi8(into, condition, _mm256_permutexvar_epi8(reverse, LoadIds(p - kLanes)));
  }
};

}  // namespace

extern const DecodeKernels kDecodeAvx512 = {X86<Avx512>::Bitpack, X86<Avx512>::Rans, X86<Avx512>::Sparse, X86<Avx512>::RansPair,
                                               X86<Avx512>::RansFour, X86<Avx512>::Dependent};

}  // namespace tflite_smart
