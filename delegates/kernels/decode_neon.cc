// NEON, for aarch64 and armv7. As on x86 (decode_x86-inl.h) the 32 lanes are bytes, here in two halves of 16, and the rANS states
// are a plane of low and a plane of high bytes. There is no instruction that makes a mask or hands out bytes: the byte for a
// lane is found with a prefix sum over the lanes that need one.
#include <arm_neon.h>

#include "kernels/decode.h"
#include "kernels/select_loop.h"

namespace tflite_smart {
namespace {

constexpr uint32_t kHalf = kLanes / 2;

TFS_INLINE size_t Clamp(size_t value, size_t limit) { return value < limit ? value : limit; }

// table[index], 0 where the index is 16 or more.
TFS_INLINE uint8x16_t LookUp(uint8x16_t table, uint8x16_t index) {
#if defined(__aarch64__)
  return vqtbl1q_u8(table, index);
#else
  const uint8x8x2_t halves = {{vget_low_u8(table), vget_high_u8(table)}};
  return vcombine_u8(vtbl2_u8(halves, vget_low_u8(index)), vtbl2_u8(halves, vget_high_u8(index)));
#endif
}

// 0xFF in the lanes whose bit is set in two bytes of a plane.
TFS_INLINE uint8x16_t FromPlane(const uint8_t* plane) {
  const uint8x16_t lane_bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  return vtstq_u8(vcombine_u8(vdup_n_u8(plane[0]), vdup_n_u8(plane[1])), lane_bit);
}

template <int num_planes>
TFS_INLINE uint8x16_t AppendPlanes(uint8x16_t codes, const uint8_t* planes) {
  for (int bit = num_planes - 1; bit >= 0; --bit) codes = vsubq_u8(vaddq_u8(codes, codes), FromPlane(planes + 4 * bit));
  return codes;
}

// Lanes where `condition` holds, ascending, get the next bytes from *p on; the others keep `into`. Reads 16 bytes.
TFS_INLINE uint8x16_t ExpandUp(uint8x16_t into, uint8x16_t condition, const uint8_t** p) {
  const uint8x16_t zero = vdupq_n_u8(0);
  uint8x16_t sum = vsubq_u8(zero, condition);
  sum = vaddq_u8(sum, vextq_u8(zero, sum, 15));
  sum = vaddq_u8(sum, vextq_u8(zero, sum, 14));
  sum = vaddq_u8(sum, vextq_u8(zero, sum, 12));
  sum = vaddq_u8(sum, vextq_u8(zero, sum, 8));
  const uint8x16_t bytes = LookUp(vld1q_u8(*p), vsubq_u8(sum, vdupq_n_u8(1)));
  *p += vgetq_lane_u8(sum, 15);
  return vbslq_u8(condition, bytes, into);
}

// Lanes where `condition` holds, ascending, get the next bytes downwards from *p. Escapes are rare: a branch.
TFS_INLINE uint8x16_t ExpandDown(uint8x16_t into, uint8x16_t condition, const uint8_t** p) {
  const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(condition), 4);  // four bits a lane
  uint64_t mask = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & 0x1111111111111111u;
  if (mask == 0) return into;
  uint8_t ids[kHalf];
  vst1q_u8(ids, into);
  do {
    ids[__builtin_ctzll(mask) >> 2] = *--*p;
    mask &= mask - 1;
  } while (mask != 0);
  return vld1q_u8(ids);
}

TFS_INLINE void Escape(const uint8x16_t escaped[2], const TileState& state, size_t* escapes_read, uint8x16_t row[2]) {
  const uint8_t* const start = state.end - Clamp(*escapes_read, state.stream_bytes);
  const uint8_t* p = start;
  row[0] = ExpandDown(row[0], escaped[0], &p);
  row[1] = ExpandDown(row[1], escaped[1], &p);
  *escapes_read += static_cast<size_t>(start - p);
}

TFS_INLINE void StoreRow(const uint8x16_t row[2], int8_t* ids) {
  vst1q_s8(ids, vreinterpretq_s8_u8(row[0]));
  vst1q_s8(ids + kHalf, vreinterpretq_s8_u8(row[1]));
}

template <int raw_bits, bool has_escape>
struct BitpackLoop {
  static void Run(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
    const uint8x16_t base = vdupq_n_u8(static_cast<uint8_t>(coding.base)), escape = vdupq_n_u8(coding.escape);
    for (; rows > 0; --rows, ids += kLanes, state->planes += 4 * raw_bits) {
      uint8x16_t row[2], escaped[2];
      for (int h = 0; h < 2; ++h) {
        const uint8x16_t codes = AppendPlanes<raw_bits>(vdupq_n_u8(0), state->planes + 2 * h);
        row[h] = vaddq_u8(codes, base);
        escaped[h] = vceqq_u8(codes, escape);
      }
      if (has_escape) Escape(escaped, *state, &state->escapes_read, row);
      StoreRow(row, ids);
    }
  }
};

// What stays the same through a tile.
struct Tables {
  uint8x16_t divider, alias, own_rank, alias_rank, own_frequency, alias_frequency, base, escape;

  TFS_INLINE explicit Tables(const Coding& coding)
      : divider(vld1q_u8(coding.tables.divider)),
        alias(vld1q_u8(coding.tables.alias)),
        own_rank(vld1q_u8(coding.tables.own_rank)),
        alias_rank(vld1q_u8(coding.tables.alias_rank)),
        own_frequency(vld1q_u8(coding.tables.frequency)),
        alias_frequency(LookUp(own_frequency, alias)),
        base(vdupq_n_u8(static_cast<uint8_t>(coding.base))),
        escape(vdupq_n_u8(coding.escape)) {}
};

// What changes from row to row.
struct Lanes {
  uint8x16_t low[2], high[2];
  size_t stream_read, escapes_read;
  const uint8_t* planes;

  TFS_INLINE explicit Lanes(const TileState& state)
      : stream_read(state.stream_read), escapes_read(state.escapes_read), planes(state.planes) {
    for (int h = 0; h < 2; ++h) {
      const uint8x16x2_t x = vld2q_u8(reinterpret_cast<const uint8_t*>(state.x + kHalf * h));
      low[h] = x.val[0];
      high[h] = x.val[1];
    }
  }

  TFS_INLINE void Store(TileState* state) const {
    for (int h = 0; h < 2; ++h) {
      const uint8x16x2_t x = {{low[h], high[h]}};
      vst2q_u8(reinterpret_cast<uint8_t*>(state->x + kHalf * h), x);
    }
    state->stream_read = stream_read;
    state->escapes_read = escapes_read;
    state->planes = planes;
  }
};

template <int raw_bits, bool has_escape>
TFS_INLINE void RansRow(const Tables& t, const TileState& state, Lanes* lanes, int8_t* ids) {
  const uint8_t* const start = state.stream + Clamp(lanes->stream_read, state.stream_bytes);
  const uint8_t* stream = start;
  uint8x16_t row[2], escaped[2];
  for (int h = 0; h < 2; ++h) {
    const uint8x16_t bucket = vshrq_n_u8(lanes->low[h], 4);
    const uint8x16_t position = vandq_u8(lanes->low[h], vdupq_n_u8(15));
    const uint8x16_t own = vcltq_u8(position, LookUp(t.divider, bucket));
    const uint8x16_t f = vbslq_u8(own, LookUp(t.own_frequency, bucket), LookUp(t.alias_frequency, bucket));
    const uint8x16_t shift = vbslq_u8(own, LookUp(t.own_rank, bucket), LookUp(t.alias_rank, bucket));
    const uint8x16_t rank = vaddq_u8(position, shift);

    const uint8x16_t q = lanes->high[h];
    const uint16x8_t first = vmlal_u8(vmovl_u8(vget_low_u8(rank)), vget_low_u8(f), vget_low_u8(q));
    const uint16x8_t second = vmlal_u8(vmovl_u8(vget_high_u8(rank)), vget_high_u8(f), vget_high_u8(q));
    const uint8x16x2_t x = vuzpq_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(second));

    const uint8x16_t empty = vceqq_u8(x.val[1], vdupq_n_u8(0));
    lanes->low[h] = ExpandUp(x.val[0], empty, &stream);
    lanes->high[h] = vbslq_u8(empty, x.val[0], x.val[1]);

    const uint8x16_t symbol = vbslq_u8(own, bucket, LookUp(t.alias, bucket));
    row[h] = vaddq_u8(AppendPlanes<raw_bits>(symbol, lanes->planes + 2 * h), t.base);
    escaped[h] = vceqq_u8(symbol, t.escape);
  }
  lanes->planes += 4 * raw_bits;
  lanes->stream_read += static_cast<size_t>(stream - start);
  if (has_escape) Escape(escaped, state, &lanes->escapes_read, row);
  StoreRow(row, ids);
}

template <int raw_bits, bool has_escape>
struct RansLoop {
  static void Run(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
    const Tables tables(coding);
    Lanes lanes(*state);
    for (; rows > 0; --rows, ids += kLanes) RansRow<raw_bits, has_escape>(tables, *state, &lanes, ids);
    lanes.Store(state);
  }
};

template <int raw_bits, bool has_escape>
struct RansPairLoop {
  static void Run(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
    const Tables tables(coding);
    Lanes a(*states[0]), b(*states[1]);
    for (size_t row = 0; row < rows; ++row) {
      RansRow<raw_bits, has_escape>(tables, *states[0], &a, ids[0] + row * kLanes);
      RansRow<raw_bits, has_escape>(tables, *states[1], &b, ids[1] + row * kLanes);
    }
    a.Store(states[0]);
    b.Store(states[1]);
  }
};

void Bitpack(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
  SelectLoop<BitpackLoop, 8, DecodeRows>(coding)(coding, state, rows, ids);
}

void Rans(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
  SelectLoop<RansLoop, 5, DecodeRows>(coding)(coding, state, rows, ids);
}

void RansPair(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
  SelectLoop<RansPairLoop, 5, DecodeRowsPair>(coding)(coding, states, rows, ids);
}

void Dependent(uint8_t* states, size_t rows, int8_t* ids) {
  const uint8x16_t next = vld1q_u8(kNextState), one = vdupq_n_u8(1);
  uint8x16_t state[2] = {vld1q_u8(states), vld1q_u8(states + 16)};
  for (; rows > 0; --rows) {
    for (int h = 0; h < 2; ++h, ids += 16) {
      const uint8x16_t row = vreinterpretq_u8_s8(vld1q_s8(ids));
      vst1q_s8(ids, vreinterpretq_s8_u8(vaddq_u8(vaddq_u8(row, row), vandq_u8(state[h], one))));
      state[h] = LookUp(next, vorrq_u8(state[h], vshlq_n_u8(vandq_u8(row, one), 3)));
    }
  }
  for (int h = 0; h < 2; ++h) vst1q_u8(states + 16 * h, state[h]);
}

void Sparse(const Coding&, TileState* state, size_t rows, int8_t* ids) {
  for (; rows > 0; --rows, ids += kLanes, state->planes += 4) {
    const uint8_t* const start = state->stream + Clamp(state->stream_read, state->stream_bytes);
    const uint8_t* stream = start;
    uint8x16_t row[2];
    for (int h = 0; h < 2; ++h) row[h] = ExpandUp(vdupq_n_u8(0), FromPlane(state->planes + 2 * h), &stream);
    state->stream_read += static_cast<size_t>(stream - start);
    StoreRow(row, ids);
  }
}

}  // namespace

extern const DecodeKernels kDecodeNeon = {Bitpack, Rans, Sparse, RansPair, nullptr, Dependent};

}  // namespace tflite_smart
