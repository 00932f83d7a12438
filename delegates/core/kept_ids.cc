#include "core/kept_ids.h"

#include <new>

#include "core/tile_decoder.h"

namespace tflite_smart {

Status KeptIds::Keep(PackedWeight* weight) {
  if (weight->codec == Codec::kRaw) return Status();
  PackedWeight kept = *weight;
  kept.codec = Codec::kRaw;
  kept.coding = Coding();
  kept.num_symbols = 0;
  kept.panels_per_tile = 1;  // without a decoder to start, every panel can be a tile
  kept.num_tiles = kept.num_panels;
  kept.payload_bytes = static_cast<uint32_t>(weight->num_elements());
  ids_.reset(new (std::nothrow) int8_t[kept.payload_bytes + kPaddingBytes]());
  tile_index_.reset(new (std::nothrow) uint32_t[kept.num_tiles + 1]);
  if (ids_ == nullptr || tile_index_ == nullptr) {
    return MakeError(Code::kOutOfMemory, "cache: %u bytes must be free. Received: none. Set the delegate's option cache_bytes to 0.",
                     kept.payload_bytes);
  }
  int8_t* ids = ids_.get();
  for (uint32_t tile = 0; tile < weight->num_tiles; ++tile) {  // in order: the last row of a tile writes lanes that belong to the next
    TFS_RETURN_IF_ERROR(DecodeTile(*weight, tile, ids));
    ids += weight->tile_ids(tile);
  }
  tile_index_[0] = 0;
  for (uint32_t tile = 0; tile < kept.num_tiles; ++tile) tile_index_[tile + 1] = tile_index_[tile] + static_cast<uint32_t>(kept.tile_ids(tile));
  kept.tile_index = tile_index_.get();
  kept.payload = reinterpret_cast<const uint8_t*>(ids_.get());
  *weight = kept;
  return Status();
}

}  // namespace tflite_smart
