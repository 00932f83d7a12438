// AVX2: what AVX-512 has instructions for is done with shuffles here. Escapes, which are rare, take a branch.
#include "kernels/decode_x86-inl.h"

namespace tflite_smart {
namespace {

// For 8 lanes: which of the next bytes each lane of the mask gets; 0x80 in the other lanes makes a shuffle yield 0.
struct ExpandTable {
  alignas(64) uint8_t index[256][8];

  constexpr ExpandTable() : index() {
    for (int mask = 0; mask < 256; ++mask) {
      uint8_t next = 0;
      for (int lane = 0; lane < 8; ++lane) index[mask][lane] = mask >> lane & 1 ? next++ : 0x80;
    }
  }
};

constexpr ExpandTable kExpand;

// Two times 8 bytes as one register.
TFS_INLINE __m128i LoadHalves(const uint8_t* low, const uint8_t* high) {
  const __m128i half = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(low));
  return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(half), reinterpret_cast<const __m64*>(high)));
}

struct Avx2 {
  static constexpr int kEscapeRows = 1;
  using Condition = __m256i;  // 0xFF or 0 in a lane

  static TFS_INLINE Condition FromPlane(uint32_t plane) {
    const __m256i lane_byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i lane_bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(plane)), lane_byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, lane_bit), lane_bit);
  }

  template <int raw_bits>
  struct Planes {
    TFS_INLINE explicit Planes(const Coding&) {}
    static constexpr size_t bytes() { return 4 * raw_bits; }

    static TFS_INLINE __m256i Codes(const uint8_t* planes) {
      __m256i codes = _mm256_setzero_si256();
      for (int bit = raw_bits - 1; bit >= 0; --bit) codes = _mm256_sub_epi8(_mm256_add_epi8(codes, codes), FromPlane(LoadPlane(planes + 4 * bit)));
      return codes;
    }
  };

  template <template <int, bool> class Loop, int num_raw_bits, typename Function>
  static TFS_INLINE Function FindLoop(const Coding& coding) {
    return SelectLoop<Loop, num_raw_bits, Function>(coding);
  }

  static TFS_INLINE void Interleave(__m256i even, __m256i odd, __m256i* low, __m256i* high) {
    const __m256i byte = _mm256_set1_epi16(255);
    *low = Select(byte, even, _mm256_slli_epi16(odd, 8));
    *high = Select(byte, _mm256_srli_epi16(even, 8), odd);
  }

  // What follows for a bucket's own symbol and for its alias is looked up side by side, then chosen: that takes the least time.
  struct Slots {
    __m256i divider, own_rank, alias_rank, own_frequency, alias_frequency, own_id, alias_id;

    TFS_INLINE explicit Slots(const Coding& coding)
        : divider(Broadcast(coding.tables.divider)),
          own_rank(Broadcast(coding.tables.own_rank)),
          alias_rank(Broadcast(coding.tables.alias_rank)),
          own_frequency(Broadcast(coding.tables.frequency)),
          alias_frequency(_mm256_shuffle_epi8(own_frequency, Broadcast(coding.tables.alias))),
          own_id(_mm256_broadcastsi128_si256(FirstIds(coding, AllSymbols()))),
          alias_id(_mm256_broadcastsi128_si256(FirstIds(coding, LoadTable(coding.tables.alias)))) {}

    TFS_INLINE Symbol Find(__m256i low) const {
      const __m256i nibble = _mm256_set1_epi8(15), bucket = _mm256_and_si256(_mm256_srli_epi16(low, 4), nibble), position = _mm256_and_si256(low, nibble);
      const __m256i own = _mm256_cmpgt_epi8(_mm256_shuffle_epi8(divider, bucket), position);
      const auto chosen = [&](__m256i yes, __m256i no) { return Select(own, _mm256_shuffle_epi8(yes, bucket), _mm256_shuffle_epi8(no, bucket)); };
      return {chosen(own_frequency, alias_frequency), _mm256_add_epi8(position, chosen(own_rank, alias_rank)), chosen(own_id, alias_id)};
    }
  };

  static TFS_INLINE Condition Equal(__m256i a, __m256i b) { return _mm256_cmpeq_epi8(a, b); }
  static TFS_INLINE __m256i Choose(Condition condition, __m256i yes, __m256i no) { return Select(condition, yes, no); }
  static TFS_INLINE uint32_t Mask(Condition condition) { return static_cast<uint32_t>(_mm256_movemask_epi8(condition)); }

  // The bytes for the lanes of the mask, 0 in the others. Group g of 8 lanes starts behind the bytes of the groups below it.
  static TFS_INLINE __m256i Expand(uint32_t mask, const uint8_t* p) {
    const uint8_t* p1 = p + Count(mask & 0xFF);
    const uint8_t* p2 = p + Count(mask & 0xFFFF);
    const uint8_t* p3 = p + Count(mask & 0xFFFFFF);
    const __m256i bytes = _mm256_set_m128i(LoadHalves(p2, p3), LoadHalves(p, p1));
    const __m256i index = _mm256_set_m128i(LoadHalves(kExpand.index[mask >> 16 & 255], kExpand.index[mask >> 24]),
                                           LoadHalves(kExpand.index[mask & 255], kExpand.index[mask >> 8 & 255]));
    const __m256i second_half = _mm256_setr_epi64x(0, 0x0808080808080808, 0, 0x0808080808080808);
    return _mm256_shuffle_epi8(bytes, _mm256_add_epi8(index, second_half));
  }

  static TFS_INLINE __m256i ExpandUp(__m256i into, Condition condition, const uint8_t* p) {
    return Select(condition, Expand(Mask(condition), p), into);
  }

  static TFS_INLINE __m256i ExpandDown(__m256i into, Condition condition, const uint8_t* p) {
    uint32_t mask = Mask(condition);
    if (mask == 0) return into;
    alignas(32) uint8_t ids[kLanes];
    StoreIds(into, ids);
    do {
      ids[__builtin_ctz(mask)] = *--p;
      mask &= mask - 1;
    } while (mask != 0);
    return LoadIds(ids);
  }
};

}  // namespace

extern const DecodeKernels kDecodeAvx2 = {X86<Avx2>::Bitpack, X86<Avx2>::Rans, X86<Avx2>::Sparse, X86<Avx2>::RansPair, nullptr,
                                             X86<Avx2>::Dependent};

}  // namespace tflite_smart
