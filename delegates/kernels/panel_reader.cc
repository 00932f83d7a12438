#include "kernels/panel_reader.h"

#include <cstring>

#include "kernels/isa.h"

namespace tflite_smart {
namespace {

constexpr float kMidriseOffset = 0.5f;
static_assert(kGroupLimit == kMaxGroup && kCoefficientLimit == kMaxCoefficient, "");

// A narrow panel's ids come `width` apart. From the last to the first they move to 32 apart, inside the same memory: 32 at a time, those that
// belong to later rows being cut off.
void Spread(uint32_t count, uint32_t width, int8_t* ids) {
  int8_t mask[kLanes] = {};
  std::memset(mask, -1, width);
  for (uint32_t k = count; k-- > 0;) {
    int8_t row[kLanes];
    std::memcpy(row, ids + static_cast<size_t>(k) * width, kLanes);
    for (uint32_t j = 0; j < kLanes; ++j) row[j] &= mask[j];
    std::memcpy(ids + static_cast<size_t>(k) * kLanes, row, kLanes);
  }
}

}  // namespace

float IdOffset(const PackedWeight& weight) { return weight.value_kind == ValueKind::kMidrise ? kMidriseOffset : 0.0f; }

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
  if (!in_tile_ && !is_plain()) {
    TFS_RETURN_IF_ERROR(decoder_.Start(*weight_, panel_ / weight_->panels_per_tile));
    in_tile_ = true;
  }
  if (left_ == 0) {
    left_ = weight_->channel_elements;
    std::memset(states_, 0, sizeof(states_));
  }
  return Status();
}

void PanelReader::ToValues(uint32_t count, int8_t* ids) {
  if (weight_->value_kind == ValueKind::kDependent) ActiveIsa().decode->dependent(states_, count, ids);
}

Status PanelReader::EndPiece(uint32_t count) {
  left_ -= count;
  if (left_ != 0) return Status();
  ++panel_;
  if (panel_ == weight_->num_panels || panel_ % weight_->panels_per_tile == 0) {
    in_tile_ = false;
    return is_plain() ? Status() : decoder_.Finish();
  }
  return Status();
}

// Floats that nobody has packed, in the order of the GEMM.
void PanelReader::CopyPlain(uint32_t count, float* values) const {
  const PlainValues& plain = weight_->plain;
  const uint32_t width = weight_->panel_width(panel_), first_k = weight_->channel_elements - left_;
  const float* from = plain.values + panel_ * kLanes * plain.channel_step + first_k * plain.k_step;
  for (uint32_t k = 0; k < count; ++k, from += plain.k_step, values += kLanes) {
    for (uint32_t j = 0; j < width; ++j) values[j] = from[j * plain.channel_step];
  }
}

Status PanelReader::ReadIds(uint32_t count, int8_t* ids) {
  TFS_RETURN_IF_ERROR(BeginPanel());
  const uint32_t width = weight_->panel_width(panel_);
  TFS_RETURN_IF_ERROR(decoder_.Next((static_cast<uint64_t>(count) * width + kLanes - 1) / kLanes, ids));
  if (width != kLanes) Spread(count, width, ids);
  ToValues(count, ids);
  return EndPiece(count);
}

void PanelReader::ToFloats(const int8_t* ids, uint32_t count, float* values) const {
  const size_t total = static_cast<size_t>(count) * kLanes;
  if (weight_->value_kind == ValueKind::kCodebook) {
    const float* centre = weight_->codebook + 128;
    for (size_t i = 0; i < total; ++i) values[i] = centre[ids[i]];
    return;
  }
  if (weight_->value_kind == ValueKind::kSmartdeal) return ActiveIsa().f32->coefficients(ids, count, values);
  ActiveIsa().f32->dequantize(ids, total, IdOffset(*weight_), values);
}

// Coefficients k..k+count of a panel to weights, in place.
void PanelReader::MixGroups(uint32_t panel, uint32_t first_k, uint32_t count, float* values) const {
  const Basis& b = weight_->basis;
  if (b.values == nullptr) return;
  GroupTile tile;
  tile.values = values;
  tile.k = count;
  tile.size = b.group_size;
  tile.stride = b.group_stride;
  tile.first_group = first_k / b.group_size;
  tile.slice_groups = b.slice_groups;
  tile.basis = b.values + static_cast<size_t>(panel) * kLanes;
  tile.basis_stride = weight_->num_channels;
  ActiveIsa().f32->mix_groups(tile);
}

Status PanelReader::Read(uint32_t count, int8_t* ids, float* values) {
  TFS_RETURN_IF_ERROR(BeginPanel());
  const uint32_t panel = panel_, first_k = weight_->channel_elements - left_;
  if (is_plain()) {
    CopyPlain(count, values);
    return EndPiece(count);
  }
  for (uint32_t done = 0, piece; done < count; done += piece) {
    piece = count - done < kMaxChunk ? count - done : kMaxChunk;
    TFS_RETURN_IF_ERROR(ReadIds(piece, ids));
    ToFloats(ids, piece, values + static_cast<size_t>(done) * kLanes);
  }
  MixGroups(panel, first_k, count, values);
  return Status();
}

bool PanelReader::CanMultiplyPlanes(const PackedWeight& weight) {
  const Coding& coding = weight.coding;
  const bool ids_are_values = weight.value_kind == ValueKind::kInteger || weight.value_kind == ValueKind::kUniform;
  return weight.codec == Codec::kBitpack && ids_are_values && coding.base + (1 << coding.raw_bits) - 1 <= INT8_MAX && weight.channel_elements % kMaxInt8Group == 0 &&
         ActiveIsa().i8->multiply_planes != nullptr;
}

Status PanelReader::MultiplyPlanes(const uint8_t* a, int32_t* sums, int32_t* id_sums) {
  TFS_RETURN_IF_ERROR(BeginPanel());
  TileState* state;
  TFS_RETURN_IF_ERROR(decoder_.NextByHand(left_, &state));
  ActiveIsa().i8->multiply_planes(weight_->coding, state, {a, left_ / kMaxInt8Group, sums, id_sums});
  return EndPiece(left_);
}

Status PanelReader::ReadIdsSideBySide(PanelReader* const* readers, uint32_t num_readers, uint32_t count, int8_t* const* ids, const int8_t** at) {
  TileDecoder* decoders[kMaxSideBySide] = {};
  uint32_t num_whole = 0;  // only the weight's last panel, which the last reader has, may be narrow
  for (uint32_t i = 0; i < num_readers; ++i) {
    TFS_RETURN_IF_ERROR(readers[i]->BeginPanel());
    decoders[i] = &readers[i]->decoder_;
    num_whole += readers[i]->weight_->panel_width(readers[i]->panel_) == kLanes ? 1 : 0;
  }
  const PackedWeight& weight = *readers[0]->weight_;
  const bool in_place = at != nullptr && weight.codec == Codec::kRaw && weight.value_kind != ValueKind::kDependent;
  if (!in_place) TFS_RETURN_IF_ERROR(TileDecoder::NextSideBySide(decoders, num_whole, count, ids));
  for (uint32_t i = 0; i < num_readers; ++i) {
    if (at != nullptr) at[i] = ids[i];
    if (i >= num_whole) {
      TFS_RETURN_IF_ERROR(readers[i]->ReadIds(count, ids[i]));
      continue;
    }
    if (in_place) {
      TFS_RETURN_IF_ERROR(decoders[i]->NextInPlace(count, &at[i]));
    } else {
      readers[i]->ToValues(count, ids[i]);
    }
    TFS_RETURN_IF_ERROR(readers[i]->EndPiece(count));
  }
  return Status();
}

Status PanelReader::ReadSideBySide(PanelReader* const* readers, uint32_t num_readers, uint32_t count, int8_t* const* ids, float* values, size_t step) {
  constexpr uint32_t kPiece = 128;  // so that the ids of all are still in the first-level cache when they become floats
  uint32_t panels[kMaxSideBySide] = {}, first_k = 0;
  if (readers[0]->is_plain()) {
    for (uint32_t i = 0; i < num_readers; ++i) TFS_RETURN_IF_ERROR(readers[i]->Read(count, ids[i], values + i * step));
    return Status();
  }
  for (uint32_t i = 0; i < num_readers; ++i) {
    TFS_RETURN_IF_ERROR(readers[i]->BeginPanel());
    panels[i] = readers[i]->panel_;
    first_k = readers[i]->weight_->channel_elements - readers[i]->left_;
  }
  for (uint32_t done = 0; done < count; done += kPiece) {
    const uint32_t piece = count - done < kPiece ? count - done : kPiece;
    const int8_t* at[kMaxSideBySide];
    TFS_RETURN_IF_ERROR(ReadIdsSideBySide(readers, num_readers, piece, ids, at));
    for (uint32_t i = 0; i < num_readers; ++i) readers[i]->ToFloats(at[i], piece, values + i * step + static_cast<size_t>(done) * kLanes);
  }
  for (uint32_t i = 0; i < num_readers; ++i) readers[i]->MixGroups(panels[i], first_k, count, values + i * step);
  return Status();
}

}  // namespace tflite_smart
