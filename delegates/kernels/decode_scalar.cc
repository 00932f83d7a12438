// The row decoders in plain C++: the model for the other instruction sets, in the order of FORMAT.md section 4.
#include <cstring>

#include "kernels/decode.h"

namespace tflite_smart {
namespace {

// Bit i of a byte as 0 or 1 in byte i: eight lanes of a plane in one register.
uint64_t Spread(uint8_t byte) {
  const uint64_t bits = byte * 0x0101010101010101u & 0x8040201008040201u;  // bit i alone in byte i
  return (bits + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;          // carries into bit 7 where there is one
}

// The code of every lane of a row, and the pointer moved on.
void ReadPlanes(uint8_t raw_bits, const uint8_t** planes, uint8_t* codes) {
  for (uint32_t group = 0; group < kLanes / 8; ++group) {
    uint64_t eight = 0;
    for (uint32_t bit = 0; bit < raw_bits; ++bit) eight |= Spread((*planes)[4 * bit + group]) << bit;
    std::memcpy(codes + 8 * group, &eight, sizeof(eight));
  }
  *planes += 4 * raw_bits;
}

size_t Clamp(size_t value, size_t limit) { return value < limit ? value : limit; }

// The bytes of the stream for the next row.
const uint8_t* RowStream(const TileState& state) { return state.stream + Clamp(state.stream_read, state.stream_bytes); }

// Replaces the ids of the lanes in `mask` by the next ones of the escape list.
void Escape(uint32_t mask, TileState* state, int8_t* ids) {
  const uint8_t* escape = state->end - Clamp(state->escapes_read, state->stream_bytes);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) {
      ids[lane] = static_cast<int8_t>(*--escape);
      ++state->escapes_read;
    }
  }
}

void Bitpack(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
  for (; rows > 0; --rows, ids += kLanes) {
    uint8_t codes[kLanes];
    uint32_t escaped = 0;
    ReadPlanes(coding.raw_bits, &state->planes, codes);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      ids[lane] = static_cast<int8_t>(coding.base + codes[lane]);
      escaped |= static_cast<uint32_t>(codes[lane] == coding.escape) << lane;
    }
    if (coding.has_escape && escaped != 0) Escape(escaped, state, ids);
  }
}

void Rans(const Coding& coding, TileState* state, size_t rows, int8_t* ids) {
  const AliasTables& t = coding.tables;
  for (; rows > 0; --rows, ids += kLanes) {
    uint8_t raw[kLanes];
    uint32_t escaped = 0;
    const uint8_t* const start = RowStream(*state);
    const uint8_t* stream = start;
    ReadPlanes(coding.raw_bits, &state->planes, raw);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      uint32_t x = state->x[lane];
      const uint32_t q = x >> 8, bucket = x >> 4 & 15, position = x & 15;
      // Which of the two symbols of a bucket, and whether a byte is due, is as unpredictable as coin tosses: no branch on either.
      const uint32_t own = 0u - (position < t.divider[bucket]);
      const uint32_t symbol = (bucket & own) | (t.alias[bucket] & ~own);
      const uint32_t rank = (position + ((t.own_rank[bucket] & own) | (t.alias_rank[bucket] & ~own))) & 255;
      x = t.frequency[symbol] * q + rank;
      const uint32_t refill = x < 256;
      x = (x << 8 * refill) | (*stream & (0u - refill));
      stream += refill;
      state->x[lane] = static_cast<uint16_t>(x);
      ids[lane] = static_cast<int8_t>(coding.base + (symbol << coding.raw_bits | raw[lane]));
      escaped |= static_cast<uint32_t>(symbol == coding.escape) << lane;
    }
    state->stream_read += static_cast<size_t>(stream - start);
    if (coding.has_escape && escaped != 0) Escape(escaped, state, ids);
  }
}

void Sparse(const Coding&, TileState* state, size_t rows, int8_t* ids) {
  for (; rows > 0; --rows, ids += kLanes) {
    uint8_t set[kLanes];
    ReadPlanes(1, &state->planes, set);
    const uint8_t* const start = RowStream(*state);
    const uint8_t* stream = start;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      ids[lane] = static_cast<int8_t>(set[lane] * *stream);
      stream += set[lane];
    }
    state->stream_read += static_cast<size_t>(stream - start);
  }
}

void Dependent(uint8_t* states, size_t rows, int8_t* ids) {
  for (; rows > 0; --rows, ids += kLanes) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t id = static_cast<uint8_t>(ids[lane]), state = states[lane];
      ids[lane] = static_cast<int8_t>(2 * id + (state & 1));
      states[lane] = kNextState[state + 8 * (id & 1)];
    }
  }
}

void RansPair(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids) {
  Rans(coding, states[0], rows, ids[0]);
  Rans(coding, states[1], rows, ids[1]);
}

}  // namespace

extern const DecodeKernels kDecodeScalar = {Bitpack, Rans, Sparse, RansPair, nullptr, Dependent};

}  // namespace tflite_smart
