// AVX-512 (F, BW, VL, VBMI, VBMI2, GFNI: Ice Lake, Zen 4 and later): one instruction transposes the bits of up to eight planes, and vpexpandb hands out the
// stream's bytes. No branch depends on the data.
#include "kernels/decode_x86-inl.h"

namespace tflite_smart {
namespace {

struct Avx512 {
  static constexpr int kEscapeRows = 4;
  using Condition = __mmask32;

  static TFS_INLINE Condition FromPlane(uint32_t plane) { return plane; }
  static TFS_INLINE Condition Equal(__m256i a, __m256i b) { return _mm256_cmpeq_epi8_mask(a, b); }
  static TFS_INLINE uint32_t Mask(Condition condition) { return condition; }
  static TFS_INLINE __m256i Choose(Condition condition, __m256i yes, __m256i no) { return _mm256_mask_mov_epi8(no, condition, yes); }

  // Byte i of every 8 becomes line 7 - i of a matrix of 8 x 8 bits, which is multiplied by the unit vectors: byte k gets bit k of all lines. As many planes as
  // there are: one loop does for all numbers of raw bits.
  static constexpr int kAnyBits = -1;

  template <int>
  struct Planes {
    __m256i byte_of_plane, units;
    __mmask32 used;  // no plane: 0
    size_t row_bytes;

    TFS_INLINE explicit Planes(const Coding& coding) {
      constexpr int64_t kUnits = static_cast<int64_t>(0x8040201008040201), kFirst = 0x0004080c1014181c, kNext = 0x0101010101010101;
      byte_of_plane = _mm256_setr_epi64x(kFirst, kFirst + kNext, kFirst + 2 * kNext, kFirst + 3 * kNext);
      units = _mm256_set1_epi64x(kUnits);
      used = 0x01010101u * (0xffu & 0xffu << (8 - coding.raw_bits));
      row_bytes = 4 * size_t{coding.raw_bits};
    }

    TFS_INLINE size_t bytes() const { return row_bytes; }
    TFS_INLINE __m256i Codes(const uint8_t* planes) const {
      return _mm256_gf2p8affine_epi64_epi8(units, _mm256_maskz_permutexvar_epi8(used, byte_of_plane, LoadIds(planes)), 0);
    }
  };

  template <template <int, bool> class Loop, int, typename Function>
  static TFS_INLINE Function FindLoop(const Coding& coding) {
    return coding.has_escape ? Loop<kAnyBits, true>::Run : Loop<kAnyBits, false>::Run;
  }

  // What follows waits for `high`: two fast instructions take less time than a permutation.
  static TFS_INLINE void Interleave(__m256i even, __m256i odd, __m256i* low, __m256i* high) {
    const __m256i low_bytes = _mm256_set_epi8(62, 30, 60, 28, 58, 26, 56, 24, 54, 22, 52, 20, 50, 18, 48, 16, 46, 14, 44, 12, 42, 10, 40, 8, 38, 6, 36, 4, 34, 2, 32, 0);
    *low = _mm256_permutex2var_epi8(even, low_bytes, odd);
    *high = _mm256_ternarylogic_epi32(_mm256_set1_epi16(255), _mm256_srli_epi16(even, 8), odd, 0xca);
  }

  // Tables of 32 entries, the aliases' first: one look-up each, but one that must wait for the comparison. A look-up takes the lowest five bits.
  struct Slots {
    __m256i divider, frequency, rank, first_id;

    TFS_INLINE explicit Slots(const Coding& coding) {
      const AliasTables& t = coding.tables;
      const __m128i alias = LoadTable(t.alias);
      divider = Broadcast(t.divider);
      frequency = _mm256_permutexvar_epi8(_mm256_set_m128i(AllSymbols(), alias), Broadcast(t.frequency));
      rank = _mm256_set_m128i(LoadTable(t.own_rank), LoadTable(t.alias_rank));
      first_id = _mm256_set_m128i(FirstIds(coding, AllSymbols()), FirstIds(coding, alias));
    }

    TFS_INLINE Symbol Find(__m256i low) const {
      const __m256i nibble = _mm256_set1_epi8(15), bucket = _mm256_srli_epi16(low, 4), position = _mm256_and_si256(low, nibble);
      const __m256i own = _mm256_cmpgt_epi8(_mm256_permutexvar_epi8(bucket, divider), position);
      const __m256i entry = _mm256_ternarylogic_epi32(nibble, bucket, own, 0xca);  // nibble ? bucket : own
      return {_mm256_permutexvar_epi8(entry, frequency), _mm256_add_epi8(position, _mm256_permutexvar_epi8(entry, rank)),
              _mm256_permutexvar_epi8(entry, first_id)};
    }
  };

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
