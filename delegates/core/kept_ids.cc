#include "core/kept_ids.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/float_kernels.h"
#include "kernels/panel_reader.h"

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
  ids_.reset(new (std::nothrow) int8_t[kept.payload_bytes + kReadableBytes]());
  tile_ends_.reset(new (std::nothrow) uint32_t[kept.num_tiles]);
  if (ids_ == nullptr || tile_ends_ == nullptr) {
    return MakeError(Code::kOutOfMemory, "cache: %u bytes must be free. Received: none. Set the delegate's option cache_bytes to 0.",
                     kept.payload_bytes);
  }
  TFS_RETURN_IF_ERROR(Decode(*weight));
  if (kept.value_kind == ValueKind::kDependent) kept.value_kind = ValueKind::kUniform;
  for (uint32_t tile = 0, end = 0; tile < kept.num_tiles; ++tile) tile_ends_[tile] = end += static_cast<uint32_t>(kept.tile_ids(tile));
  kept.tile_ends = tile_ends_.get();
  kept.payload = reinterpret_cast<const uint8_t*>(ids_.get());
  *weight = kept;
  return Status();
}

Status KeptIds::Decode(const PackedWeight& weight) {
  PanelReader reader;
  int8_t piece[kMaxChunk * kLanes];
  int8_t* to = ids_.get();
  for (uint32_t panel = 0; panel < weight.num_panels; ++panel) {
    TFS_RETURN_IF_ERROR(panel % weight.panels_per_tile == 0 ? reader.Start(weight, panel, piece) : Status());
    const uint32_t width = weight.panel_width(panel);
    for (uint32_t k = 0, count; k < weight.channel_elements; k += count) {
      count = std::min(weight.channel_elements - k, kMaxChunk);
      TFS_RETURN_IF_ERROR(reader.ReadIds(count, piece));
      for (uint32_t row = 0; row < count; ++row, to += width) std::memcpy(to, piece + row * static_cast<size_t>(kLanes), width);
    }
  }
  return Status();
}

}  // namespace tflite_smart
