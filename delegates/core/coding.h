// The plain data that the row decoders of every instruction set (kernels/decode_*.cc) share with the core.
//
// READ FIRST: why no decoder needs a bounds check inside a row
// Behind its fixed part a tile holds `stream_bytes` bytes: a stream that is read upwards and an escape list that is read downwards from
// the end. A row reads at most 32 bytes of each. So it is enough to clamp the address once before every row, to the tile's end
// and to the stream's first byte: a row then touches at most 32 bytes past the tile, where the format guarantees 40, and at most 32
// below the stream, where states or at least the 40 header bytes lie. Only addresses are clamped; the counts of bytes read
// run free, so an overrun stays visible: Finish() asks for stream_read + escapes_read == stream_bytes. All instruction sets read
// the same bytes, past the end too, so they agree even on a damaged tile.
#ifndef TFLITE_SMART_CORE_CODING_H_
#define TFLITE_SMART_CORE_CODING_H_

#include <cstddef>
#include <cstdint>

#include "core/format.h"

namespace tflite_smart {

// Walker's alias tables, FORMAT.md section 4. One 16-byte shuffle each.
struct AliasTables {
  alignas(16) uint8_t divider[kSymbols];     // positions of bucket b below it belong to symbol b ...
  alignas(16) uint8_t alias[kSymbols];       // ... the others to this one
  alignas(16) uint8_t own_rank[kSymbols];    // added to the position, modulo 256, to get the rank within symbol b
  alignas(16) uint8_t alias_rank[kSymbols];  // ... within the alias
  alignas(16) uint8_t frequency[kSymbols];
};

// How codes become ids: constant for a weight.
struct Coding {
  uint8_t raw_bits;
  int8_t base;
  bool has_escape;
  uint8_t escape;  // escape symbol (rans) or escape code (bitpack)
  AliasTables tables;
};

// Where a tile's decoding stands, between two rows.
struct TileState {
  alignas(64) uint16_t x[kLanes];  // rans only
  const uint8_t* planes;  // planes of the next row
  const uint8_t* stream;  // first byte behind the fixed part: rans stream, sparse values
  const uint8_t* end;     // the tile's end
  size_t stream_bytes;    // end - stream
  size_t stream_read;     // bytes taken upwards from `stream`
  size_t escapes_read;    // bytes taken downwards from `end`
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_CODING_H_
