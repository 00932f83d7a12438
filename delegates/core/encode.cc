#include "core/encode.h"

#include <cstring>

#include "core/alias_tables.h"
#include "core/packed.h"

namespace tflite_smart {
namespace {

// Ids of row `row`, missing lanes 0, and how many there are.
uint32_t LoadRow(const int8_t* ids, uint64_t num_ids, uint64_t row, int8_t* out) {
  const uint64_t first = row * kLanes;
  const uint32_t count = num_ids - first < kLanes ? static_cast<uint32_t>(num_ids - first) : kLanes;
  if (count < kLanes) std::memset(out, 0, kLanes);
  std::memcpy(out, ids + first, count);
  return count;
}

// Bit `bit` of eight lanes at a time: the multiplication gathers the lowest bits of eight bytes in the top byte.
uint8_t* StorePlanes(const uint8_t* codes, uint32_t num_planes, uint8_t* out) {
  for (uint32_t bit = 0; bit < num_planes; ++bit) {
    for (uint32_t lane = 0; lane < kLanes; lane += 8) {
      uint64_t eight;
      std::memcpy(&eight, codes + lane, sizeof(eight));
      *out++ = static_cast<uint8_t>(((eight >> bit & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
    }
  }
  return out;
}

Status NoCodeError(int id, const EncoderSettings& s) {
  return MakeError(Code::kInvalidArgument, "encode: an id must have a code, from base=%d up, or the coding an escape. Received: id=%d. "
                   "Plan the codec from a histogram of all ids.", s.base, id);
}

// What one byte of id means to the codec, for all 256 of them.
struct CodeTable {
  uint8_t code[256];     // 0 where escaped (bitpack: the escape code)
  uint8_t symbol[256];   // rans: the entropy-coded part of the code
  bool escaped[256];
  bool missing[256];     // has no code and no escape

  CodeTable(const EncoderSettings& s, const uint8_t* frequency) {
    const bool rans = s.codec == Codec::kRans;
    const int num_groups = rans ? s.num_symbols : 1 << s.raw_bits;
    const int num_codes = (num_groups - s.has_escape) << (rans ? s.raw_bits : 0);
    const int escape = num_groups - 1;
    for (int byte = 0; byte < 256; ++byte) {
      const int c = static_cast<int8_t>(byte) - s.base;
      const bool inside = c >= 0 && c < num_codes;
      escaped[byte] = !inside && s.has_escape;
      code[byte] = static_cast<uint8_t>(inside ? c : rans ? 0 : escape);
      symbol[byte] = static_cast<uint8_t>(inside ? c >> s.raw_bits : escape);
      missing[byte] = (!inside && !s.has_escape) || (rans && frequency[symbol[byte]] == 0);
    }
  }
};

// The coder's tables: division by a frequency as a multiplication, and the slot of every symbol and rank.
//   x / f = x * reciprocal >> 24, reciprocal = ceil(2^24 / f): exact as x < 2^16 and the error, x * (f - 1) / 2^24, is below 1.
struct RansEncoder {
  uint32_t limit[kSymbols], reciprocal[kSymbols], frequency[kSymbols], start[kSymbols];
  uint8_t slot[kSlots];
  uint32_t padding_symbol = 0;

  explicit RansEncoder(const EncoderSettings& s) {
    const AliasTables t = BuildAliasTables(s.frequency);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < kSymbols; ++i) {
      const uint32_t f = s.frequency[i];
      frequency[i] = f;
      limit[i] = f << 8;
      reciprocal[i] = f == 0 ? 0 : ((1u << 24) + f - 1) / f;
      start[i] = sum;
      sum += f;
    }
    for (uint32_t i = 0; i < kSlots; ++i) {
      const uint32_t bucket = i >> 4, position = i & 15;
      const bool own = position < t.divider[bucket];
      const uint32_t rank = (position + (own ? t.own_rank[bucket] : t.alias_rank[bucket])) & 255;
      slot[start[own ? bucket : t.alias[bucket]] + rank] = static_cast<uint8_t>(i);
    }
    for (uint32_t i = 1; i + s.has_escape < s.num_symbols; ++i) {
      if (s.frequency[i] > s.frequency[padding_symbol]) padding_symbol = i;
    }
  }

  // One symbol; a byte of the stream may go before `stream`. No branch: the byte is always written, and counted if it is due.
  uint8_t* Put(uint32_t symbol, uint32_t* state, uint8_t* stream) const {
    uint32_t x = *state;
    const bool full = x >= limit[symbol];
    stream[-1] = static_cast<uint8_t>(x);
    stream -= full;
    x >>= full ? 8 : 0;
    const uint32_t quotient = static_cast<uint32_t>(static_cast<uint64_t>(x) * reciprocal[symbol] >> 24);
    *state = quotient << 8 | slot[start[symbol] + x - quotient * frequency[symbol]];
    return stream;
  }
};

Status EncodeRaw(const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t* tile_bytes) {
  std::memcpy(tile, ids, static_cast<size_t>(num_ids));
  *tile_bytes = num_ids;
  return Status();
}

Status EncodeSparse(const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t* tile_bytes) {
  const uint64_t rows = (num_ids + kLanes - 1) / kLanes;
  uint8_t* planes = tile;
  uint8_t* values = tile + 4 * rows;
  for (uint64_t row = 0; row < rows; ++row) {
    int8_t lanes[kLanes];
    uint8_t set[kLanes];
    LoadRow(ids, num_ids, row, lanes);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      set[lane] = lanes[lane] != 0;
      *values = static_cast<uint8_t>(lanes[lane]);  // room for it: EncodeBound() counts every id
      values += set[lane];
    }
    planes = StorePlanes(set, 1, planes);
  }
  *tile_bytes = static_cast<uint64_t>(values - tile);
  return Status();
}

// Appends the escape list: the escaped ids, the last one first.
uint8_t* StoreEscapes(const CodeTable& table, const int8_t* ids, uint64_t num_ids, uint8_t* out) {
  for (uint64_t i = num_ids; i-- > 0;) {
    const uint8_t byte = static_cast<uint8_t>(ids[i]);
    *out = byte;
    out += table.escaped[byte];
  }
  return out;
}

Status EncodeBitpack(const EncoderSettings& s, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t* tile_bytes) {
  const CodeTable table(s, s.frequency);
  const uint64_t rows = (num_ids + kLanes - 1) / kLanes;
  uint8_t* out = tile;
  for (uint64_t row = 0; row < rows; ++row) {
    int8_t lanes[kLanes];
    uint8_t codes[kLanes] = {};
    const uint32_t count = LoadRow(ids, num_ids, row, lanes);
    for (uint32_t lane = 0; lane < count; ++lane) {
      const uint8_t byte = static_cast<uint8_t>(lanes[lane]);
      if (table.missing[byte]) return NoCodeError(lanes[lane], s);
      codes[lane] = table.code[byte];
    }
    out = StorePlanes(codes, s.raw_bits, out);
  }
  if (s.has_escape) out = StoreEscapes(table, ids, num_ids, out);
  *tile_bytes = static_cast<uint64_t>(out - tile);
  return Status();
}

Status EncodeRans(const EncoderSettings& s, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t* tile_bytes) {
  const CodeTable table(s, s.frequency);
  const RansEncoder encoder(s);
  const uint64_t rows = (num_ids + kLanes - 1) / kLanes;
  uint8_t* const states = tile + 4 * s.raw_bits * rows;
  uint8_t* const room = states + kStateBytes + 1;  // the stream grows down from the end of rows * 32 bytes; 1 for Put's spare byte
  uint8_t* const room_end = room + rows * kLanes;
  uint8_t* stream = room_end;
  uint32_t x[kLanes];
  for (uint32_t& state : x) state = kStateStart;

  for (uint64_t row = rows; row-- > 0;) {
    int8_t lanes[kLanes];
    uint8_t codes[kLanes] = {}, symbols[kLanes];
    const uint32_t count = LoadRow(ids, num_ids, row, lanes);
    std::memset(symbols, static_cast<int>(encoder.padding_symbol), kLanes);
    for (uint32_t lane = 0; lane < count; ++lane) {
      const uint8_t byte = static_cast<uint8_t>(lanes[lane]);
      if (table.missing[byte]) return NoCodeError(lanes[lane], s);
      codes[lane] = table.code[byte];
      symbols[lane] = table.symbol[byte];
    }
    StorePlanes(codes, s.raw_bits, tile + 4 * s.raw_bits * row);
    for (uint32_t lane = kLanes; lane-- > 0;) stream = encoder.Put(symbols[lane], &x[lane], stream);
  }
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    states[2 * lane] = static_cast<uint8_t>(x[lane]);
    states[2 * lane + 1] = static_cast<uint8_t>(x[lane] >> 8);
  }
  const size_t stream_bytes = static_cast<size_t>(room_end - stream);
  std::memmove(states + kStateBytes, stream, stream_bytes);
  uint8_t* out = states + kStateBytes + stream_bytes;
  if (s.has_escape) out = StoreEscapes(table, ids, num_ids, out);
  *tile_bytes = static_cast<uint64_t>(out - tile);
  return Status();
}

Status CheckSettings(const EncoderSettings& s) {
  const char* rule = nullptr;
  const bool rans = s.codec == Codec::kRans, bitpack = s.codec == Codec::kBitpack;
  uint32_t sum = 0, used_above = 0;
  for (uint32_t i = 0; i < kSymbols; ++i) {
    sum += s.frequency[i];
    used_above += i >= s.num_symbols && s.frequency[i] != 0;
  }
  if (s.raw_bits > (rans ? kMaxRansRawBits : bitpack ? kMaxBitpackBits : 0)) rule = "raw_bits must be 0..4 for rans, 0..7 for bitpack, else 0";
  if (!rans && !bitpack && (s.base != 0 || s.has_escape)) rule = "base and has_escape must be 0 for raw and sparse";
  if (bitpack && s.has_escape && s.raw_bits == 0) rule = "has_escape must be 0 when raw_bits is 0";
  if (rans && (s.num_symbols < 2 || s.num_symbols > kSymbols)) rule = "num_symbols must be 2..16";
  else if (rans && (sum != kSlots || used_above)) rule = "frequencies must sum to 256 and be 0 at and above num_symbols";
  if (rule == nullptr) return Status();
  return MakeError(Code::kInvalidArgument, "encode: %s. Received: codec=%d, raw_bits=%d, base=%d, num_symbols=%d, has_escape=%d, sum of frequencies=%u.",
                   rule, static_cast<int>(s.codec), s.raw_bits, s.base, s.num_symbols, s.has_escape, sum);
}

}  // namespace

uint64_t EncodeBound(const EncoderSettings& settings, uint64_t num_ids) {
  const uint64_t rows = num_ids / kLanes + 1;
  // Planes and states, at most a byte of stream and one of escape list for every lane, and a spare byte for each.
  return FixedTileBytes(Codec::kRans, settings.raw_bits, num_ids) + 2 * rows * kLanes + 4 * rows + 2;
}

Status EncodeTile(const EncoderSettings& settings, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t* tile_bytes) {
  TFS_RETURN_IF_ERROR(CheckSettings(settings));
  switch (settings.codec) {
    case Codec::kRaw: return EncodeRaw(ids, num_ids, tile, tile_bytes);
    case Codec::kBitpack: return EncodeBitpack(settings, ids, num_ids, tile, tile_bytes);
    case Codec::kRans: return EncodeRans(settings, ids, num_ids, tile, tile_bytes);
    case Codec::kSparse: return EncodeSparse(ids, num_ids, tile, tile_bytes);
  }
  return MakeError(Code::kInvalidArgument, "encode: codec must be 0..3. Received: codec=%d.", static_cast<int>(settings.codec));
}

}  // namespace tflite_smart
