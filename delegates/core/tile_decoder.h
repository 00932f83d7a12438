// Decodes one tile, in pieces, with the active instruction set. About 200 bytes, no allocation.
#ifndef TFLITE_SMART_CORE_TILE_DECODER_H_
#define TFLITE_SMART_CORE_TILE_DECODER_H_

#include "core/packed.h"

namespace tflite_smart {

// Example:
//   TileDecoder decoder;
//   TFS_RETURN_IF_ERROR(decoder.Start(weight, tile));
//   while (decoder.rows_left() > 0) { TFS_RETURN_IF_ERROR(decoder.Next(rows, ids)); ... }
//   TFS_RETURN_IF_ERROR(decoder.Finish());
class TileDecoder {
 public:
  // `weight` must outlive the decoding.
  Status Start(const PackedWeight& weight, uint32_t tile);

  // The next `rows` rows, 32 ids each, in the order of section 2 of FORMAT.md. The tile's last row always writes 32 ids, the missing
  // lanes hold anything. The ids of a damaged tile are wrong but never out of bounds; only Finish() knows.
  Status Next(uint64_t rows, int8_t* ids);

  // Next() of codec `raw` without a copy: where the rows lie.
  Status NextInPlace(uint64_t rows, const int8_t** ids);

  // Next() for whoever decodes the rows himself: from where *state is, which he moves on.
  Status NextByHand(uint64_t rows, TileState** state);

  // Next() of several tiles of the same weight at once: faster than one after the other where latency is the limit.
  static Status NextSideBySide(TileDecoder* const* decoders, uint32_t count, uint64_t rows, int8_t* const* ids);

  // Call after the last row: an error if rows are left or the tile does not end as the format says.
  Status Finish() const;

  uint64_t rows_left() const { return rows_left_; }

 private:
  Status Take(uint64_t rows);

  TileState state_;
  const PackedWeight* weight_ = nullptr;
  uint32_t tile_ = 0;
  uint64_t rows_left_ = 0;
};

// A whole tile: `ids` has room for weight.tile_rows(tile) * 32.
Status DecodeTile(const PackedWeight& weight, uint32_t tile, int8_t* ids);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_TILE_DECODER_H_
