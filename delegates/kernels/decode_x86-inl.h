// The row decoders on 256-bit registers, for AVX2 and AVX-512: decode_avx2.cc and decode_avx512.cc supply the `Ops` that differ.
//
// READ FIRST
// * 32 lanes are 32 bytes: codes, symbols and ids are one register; the rANS states are two, the plane of low bytes (the slots) and
//   the plane of high bytes (the quotients). A refilled lane then is `high = low, low = next byte`: two blends.
// * Every table look-up is one byte shuffle.
// * Latency decides for a single tile, as a row of rANS can't start before the last one has ended. Two tiles in one loop (RansPair) fill the gaps; with
//   32 registers four (RansFour), and then the number of instructions decides.
// * 256 bits even on AVX-512: the instructions that hand out bytes have a longer latency on 512-bit registers.
#ifndef TFLITE_SMART_KERNELS_DECODE_X86_INL_H_
#define TFLITE_SMART_KERNELS_DECODE_X86_INL_H_

#include <immintrin.h>

#include "kernels/decode.h"
#include "kernels/select_loop.h"

namespace tflite_smart {
namespace {  // one copy per file, compiled with that file's flags: see isa.h

// What Ops must have:
//   kEscapeRows: so many rows are looked through for escapes at once
//   Condition: one truth value a lane, as the instruction set likes it
//   FromPlane(plane), Equal(a, b): make one;  Mask(condition): lane j as bit j;  Choose(condition, yes, no)
//   Planes<raw_bits>(coding): what turns planes into codes. bytes(): of the planes of a row; Codes(planes): sum of bit j of planes[b] << b in lane j, at most
//     32 bytes from `planes` are read
//   FindLoop<Loop, num_raw_bits, Function>(coding): Loop<raw_bits, has_escape>::Run for the coding's values, raw_bits < num_raw_bits
//   Interleave(even, odd, &low, &high): of 16-bit words for the lanes at even bytes and for those at odd bytes, the planes of low and of high bytes
//   Slots(coding): what stays the same through a tile, with Find(low), which tells what a state's low byte means, see Symbol
//   ExpandUp(into, condition, p): lanes where it holds, ascending, get p[0], p[1], ...; at most 32 bytes from p are read
//   ExpandDown(into, condition, p): the same with p[-1], p[-2], ...

TFS_INLINE size_t Clamp(size_t value, size_t limit) { return value < limit ? value : limit; }

TFS_INLINE uint32_t LoadPlane(const uint8_t* p) {
  uint32_t plane;
  __builtin_memcpy(&plane, p, sizeof(plane));
  return plane;
}

TFS_INLINE size_t Count(uint32_t mask) { return static_cast<size_t>(_mm_popcnt_u32(mask)); }

TFS_INLINE __m256i LoadIds(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TFS_INLINE void StoreIds(__m256i ids, void* p) { _mm256_storeu_si256(static_cast<__m256i*>(p), ids); }

TFS_INLINE __m128i LoadTable(const uint8_t* table) { return _mm_load_si128(reinterpret_cast<const __m128i*>(table)); }

// The sixteen entries of a table in both halves of a register.
TFS_INLINE __m256i Broadcast(const uint8_t* table) {
  return _mm256_broadcastsi128_si256(LoadTable(table));
}

TFS_INLINE __m256i Select(__m256i condition, __m256i yes, __m256i no) { return _mm256_blendv_epi8(no, yes, condition); }

// Planes are read at the speed of memory, which needs to be told where reading goes on: the processor itself stops at the end of a page.
constexpr size_t kPrefetchBytes = 1024;

// What the slot of a lane says.
struct Symbol {
  __m256i frequency, rank;
  __m256i first_id;  // id of this symbol if all raw bits are 0
};

// first_id of sixteen symbols. Shifted 16-bit words are shifted bytes here, as no bit leaves its byte: symbols are below 16 and raw bits at most 4.
TFS_INLINE __m128i FirstIds(const Coding& coding, __m128i symbols) {
  return _mm_add_epi8(_mm_sll_epi16(symbols, _mm_cvtsi32_si128(coding.raw_bits)), _mm_set1_epi8(coding.base));
}

TFS_INLINE __m128i AllSymbols() { return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

template <class Ops>
TFS_INLINE __m256i Escape(__m256i ids, typename Ops::Condition escaped, const TileState& state, size_t* escapes_read) {
  const uint8_t* end = state.end - Clamp(*escapes_read, state.stream_bytes);
  *escapes_read += Count(Ops::Mask(escaped));
  return Ops::ExpandDown(ids, escaped, end);
}

template <class Ops>
struct X86 {
  // `count` rows. Escapes are few at best; then several rows together seldom have one, and looking for them in each would take longer than everything else.
  template <int raw_bits, bool has_escape>
  struct BitpackLoop {
    const typename Ops::template Planes<raw_bits> planes_;
    const __m256i base_, escape_;
    const TileState fixed_;  // which no store can change
    size_t escapes_read_;

    TFS_INLINE BitpackLoop(const Coding& coding, const TileState& state)
        : planes_(coding), base_(_mm256_set1_epi8(coding.base)), escape_(_mm256_set1_epi8(static_cast<char>(coding.escape))), fixed_(state),
          escapes_read_(state.escapes_read) {}

    template <int count>
    TFS_INLINE void Rows(const uint8_t* planes, int8_t* ids) {
      __m256i codes[count], most = _mm256_setzero_si256();
      for (int i = 0; i < count; ++i) {
        codes[i] = planes_.Codes(planes + planes_.bytes() * i);
        most = _mm256_max_epu8(most, codes[i]);  // no code is larger than the escape
      }
      const bool escapes = has_escape && (count == 1 || Ops::Mask(Ops::Equal(most, escape_)) != 0);
      for (int i = 0; i < count; ++i) {
        __m256i row = _mm256_add_epi8(codes[i], base_);
        if (escapes) row = Escape<Ops>(row, Ops::Equal(codes[i], escape_), fixed_, &escapes_read_);
        StoreIds(row, ids + i * kLanes);
      }
    }

    static void Run(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
      constexpr int kStep = has_escape ? Ops::kEscapeRows : 1;
      BitpackLoop loop(coding, *state);
      const uint8_t* planes = state->planes;
      for (; rows >= kStep; rows -= kStep, ids += kStep * kLanes, planes += kStep * loop.planes_.bytes()) {
        const char* const ahead = reinterpret_cast<const char*>(planes + kPrefetchBytes);
        _mm_prefetch(ahead, _MM_HINT_T0);
        if (kStep > 1) _mm_prefetch(ahead + kStep / 2 * loop.planes_.bytes(), _MM_HINT_T0);  // so that no line is left out
        loop.template Rows<kStep>(planes, ids);
      }
      for (; rows > 0; --rows, ids += kLanes, planes += loop.planes_.bytes()) loop.template Rows<1>(planes, ids);
      state->planes = planes;
      state->escapes_read = loop.escapes_read_;
    }
  };

  // What changes from row to row.
  struct Lanes {
    __m256i low, high;
    size_t stream_read, escapes_read;
    const uint8_t* planes;

    TFS_INLINE explicit Lanes(const TileState& state)
        : stream_read(state.stream_read), escapes_read(state.escapes_read), planes(state.planes) {
      const __m256i a = LoadIds(state.x), b = LoadIds(state.x + 16), byte = _mm256_set1_epi16(255);
      low = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
      high = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
      low = _mm256_permute4x64_epi64(low, 0xD8);  // the pack works on 128-bit halves
      high = _mm256_permute4x64_epi64(high, 0xD8);
    }

    TFS_INLINE void Store(TileState* state) const {
      const __m256i l = _mm256_permute4x64_epi64(low, 0xD8), h = _mm256_permute4x64_epi64(high, 0xD8);
      StoreIds(_mm256_unpacklo_epi8(l, h), state->x);
      StoreIds(_mm256_unpackhi_epi8(l, h), state->x + 16);
      state->stream_read = stream_read;
      state->escapes_read = escapes_read;
      state->planes = planes;
    }
  };

  // What stays the same through a tile.
  template <int raw_bits>
  struct Tables {
    typename Ops::Slots slots;
    typename Ops::template Planes<raw_bits> planes;
    __m256i escape;

    TFS_INLINE explicit Tables(const Coding& coding)
        : slots(coding), planes(coding), escape(_mm256_broadcastb_epi8(FirstIds(coding, _mm_set1_epi8(static_cast<char>(coding.escape))))) {}
  };

  template <int raw_bits, bool has_escape>
  static TFS_INLINE void RansRow(const Tables<raw_bits>& t, const TileState& state, Lanes* lanes, int8_t* ids) {
    const Symbol symbol = t.slots.Find(lanes->low);

    // x = frequency * high + rank, in 16 bits for the lanes at even bytes and for those at odd bytes.
    const __m256i byte = _mm256_set1_epi16(255), f = symbol.frequency, q = lanes->high;
    const __m256i even = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_and_si256(f, byte), _mm256_and_si256(q, byte)),
                                          _mm256_and_si256(symbol.rank, byte));
    const __m256i odd = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_srli_epi16(f, 8), _mm256_srli_epi16(q, 8)),
                                         _mm256_srli_epi16(symbol.rank, 8));
    __m256i low, high;
    Ops::Interleave(even, odd, &low, &high);

    const typename Ops::Condition refill = Ops::Equal(high, _mm256_setzero_si256());
    lanes->low = Ops::ExpandUp(low, refill, state.stream + Clamp(lanes->stream_read, state.stream_bytes));
    lanes->high = Ops::Choose(refill, low, high);
    lanes->stream_read += Count(Ops::Mask(refill));

    __m256i row = _mm256_add_epi8(symbol.first_id, t.planes.Codes(lanes->planes));
    lanes->planes += t.planes.bytes();
    if (has_escape) row = Escape<Ops>(row, Ops::Equal(symbol.first_id, t.escape), state, &lanes->escapes_read);
    StoreIds(row, ids);
  }

  template <int raw_bits, bool has_escape>
  struct RansLoop {
    static void Run(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
      const Tables<raw_bits> tables(coding);
      const TileState fixed = *state;
      Lanes lanes(fixed);
      for (; rows > 0; --rows, ids += kLanes) RansRow<raw_bits, has_escape>(tables, fixed, &lanes, ids);
      lanes.Store(state);
    }
  };

  template <int raw_bits, bool has_escape>
  struct RansPairLoop {
    static void Run(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
      const Tables<raw_bits> tables(coding);
      const TileState fixed[2] = {*states[0], *states[1]};
      Lanes a(fixed[0]), b(fixed[1]);
      for (size_t i = 0; i < rows * kLanes; i += kLanes) {
        RansRow<raw_bits, has_escape>(tables, fixed[0], &a, ids[0] + i);
        RansRow<raw_bits, has_escape>(tables, fixed[1], &b, ids[1] + i);
      }
      a.Store(states[0]);
      b.Store(states[1]);
    }
  };

  template <int raw_bits, bool has_escape>
  struct RansFourLoop {
    static void Run(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
      const Tables<raw_bits> tables(coding);
      const TileState fixed[4] = {*states[0], *states[1], *states[2], *states[3]};
      Lanes a(fixed[0]), b(fixed[1]), c(fixed[2]), d(fixed[3]);
      for (size_t i = 0; i < rows * kLanes; i += kLanes) {
        RansRow<raw_bits, has_escape>(tables, fixed[0], &a, ids[0] + i);
        RansRow<raw_bits, has_escape>(tables, fixed[1], &b, ids[1] + i);
        RansRow<raw_bits, has_escape>(tables, fixed[2], &c, ids[2] + i);
        RansRow<raw_bits, has_escape>(tables, fixed[3], &d, ids[3] + i);
      }
      a.Store(states[0]);
      b.Store(states[1]);
      c.Store(states[2]);
      d.Store(states[3]);
    }
  };

  static void Bitpack(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
    Ops::template FindLoop<BitpackLoop, 8, DecodeRows>(coding)(coding, state, rows, ids);
  }

  static void Rans(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
    Ops::template FindLoop<RansLoop, 5, DecodeRows>(coding)(coding, state, rows, ids);
  }

  static void RansFour(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
    Ops::template FindLoop<RansFourLoop, 5, DecodeRowsPair>(coding)(coding, states, rows, ids);
  }

  static void RansPair(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
    Ops::template FindLoop<RansPairLoop, 5, DecodeRowsPair>(coding)(coding, states, rows, ids);
  }

  static void Dependent(uint8_t* states, size_t rows, int8_t* ids) {
    const __m256i next = Broadcast(kNextState), one = _mm256_set1_epi8(1);
    __m256i state = LoadIds(states);
    for (; rows > 0; --rows, ids += kLanes) {
      const __m256i row = LoadIds(ids);
      StoreIds(_mm256_or_si256(_mm256_add_epi8(row, row), _mm256_and_si256(state, one)), ids);
      state = _mm256_shuffle_epi8(next, _mm256_or_si256(state, _mm256_slli_epi16(_mm256_and_si256(row, one), 3)));
    }
    StoreIds(state, states);
  }

  static void Sparse(const Coding&, TileState* state, size_t rows, int8_t* ids) {
    const uint8_t* planes = state->planes;
    size_t stream_read = state->stream_read;
    for (; rows > 0; --rows, ids += kLanes, planes += 4) {
      const uint32_t set = LoadPlane(planes);
      const uint8_t* stream = state->stream + Clamp(stream_read, state->stream_bytes);
      StoreIds(Ops::ExpandUp(_mm256_setzero_si256(), Ops::FromPlane(set), stream), ids);
      stream_read += Count(set);
    }
    state->planes = planes;
    state->stream_read = stream_read;
  }
};

}  // namespace
}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_DECODE_X86_INL_H_
