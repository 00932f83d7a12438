#include "kernels/panel_reader.h"

#include <cstring>

#include "kernels/isa.h"

namespace tflite_smart {
namespace {

constexpr float kMidriseOffset = 0.5f;

// A narrow panel's ids come `width` apart. From the last to the first they move to 32 apart, inside the same memory.
void Spread(uint32_t count, uint32_t width, int8_t* ids) {
  for (uint32_t k = count; k-- > 0;) {
    int8_t* row = ids + static_cast<size_t>(k) * kLanes;
    std::memmove(row, ids + static_cast<size_t>(k) * width, width);
    std::memset(row + width, 0, kLanes - width);
  }
}

}  // namespace

Status PanelReader::Start(const PackedWeight& weight, uint32_t panel, int8_t* ids) {
  weight_ = &weight;
  const uint32_t tile = panel / weight.panels_per_tile;
  panel_ = weight.first_panel(tile);
  in_tile_ = false;
  left_ = 0;
  return SkipTo(panel, ids);
}

Status PanelReader::SkipTo(uint32_t panel, int8_t* ids) {
  while (panel_ < panel) {
    const uint32_t left = left_ != 0 ? left_ : weight_->channel_elements;
    TFS_RETURN_IF_ERROR(ReadIds(left < kMaxChunk ? left : kMaxChunk, ids));
  }
  return Status();
}

Status PanelReader::BeginPanel() {
  if (!in_tile_) {
    TFS_RETURN_IF_ERROR(decoder_.Start(*weight_, panel_ / weight_->panels_per_tile));
    in_tile_ = true;
  }
  if (left_ == 0) left_ = weight_->channel_elements;
  return Status();
}

Status PanelReader::EndPiece(uint32_t count) {
  left_ -= count;
  if (left_ != 0) return Status();
  ++panel_;
  if (panel_ == weight_->num_panels || panel_ % weight_->panels_per_tile == 0) {
    in_tile_ = false;
    return decoder_.Finish();
  }
  return Status();
}

Status PanelReader::ReadIds(uint32_t count, int8_t* ids) {
  TFS_RETURN_IF_ERROR(BeginPanel());
  const uint32_t width = weight_->panel_width(panel_);
  TFS_RETURN_IF_ERROR(decoder_.Next((static_cast<uint64_t>(count) * width + kLanes - 1) / kLanes, ids));
  if (width != kLanes) Spread(count, width, ids);
  return EndPiece(count);
}

void PanelReader::ToFloats(const int8_t* ids, uint32_t count, float* values) const {
  const size_t total = static_cast<size_t>(count) * kLanes;
  if (weight_->value_kind == ValueKind::kCodebook) {
    const float* centre = weight_->codebook + 128;
    for (size_t i = 0; i < total; ++i) values[i] = centre[ids[i]];
    return;
  }
  ActiveIsa().f32->dequantize(ids, total, weight_->value_kind == ValueKind::kMidrise ? kMidriseOffset : 0.0f, values);
}

Status PanelReader::Read(uint32_t count, int8_t* ids, float* values) {
  while (count > 0) {
    const uint32_t piece = count < kMaxChunk ? count : kMaxChunk;
    TFS_RETURN_IF_ERROR(ReadIds(piece, ids));
    ToFloats(ids, piece, values);
    values += static_cast<size_t>(piece) * kLanes;
    count -= piece;
  }
  return Status();
}

Status PanelReader::ReadPair(PanelReader* readers[2], uint32_t count, int8_t* const ids[2], float* const values[2]) {
  PanelReader& a = *readers[0];
  PanelReader& b = *readers[1];
  TFS_RETURN_IF_ERROR(a.BeginPanel());
  TFS_RETURN_IF_ERROR(b.BeginPanel());
  if (count > kMaxChunk || a.weight_->panel_width(a.panel_) != kLanes || b.weight_->panel_width(b.panel_) != kLanes) {
    TFS_RETURN_IF_ERROR(a.Read(count, ids[0], values[0]));
    return b.Read(count, ids[1], values[1]);
  }
  TFS_RETURN_IF_ERROR(TileDecoder::NextPair(&a.decoder_, &b.decoder_, count, ids[0], ids[1]));
  a.ToFloats(ids[0], count, values[0]);
  b.ToFloats(ids[1], count, values[1]);
  TFS_RETURN_IF_ERROR(a.EndPiece(count));
  return b.EndPiece(count);
}

}  // namespace tflite_smart
