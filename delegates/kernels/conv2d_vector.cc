// One output position: a fully connected layer for one row, or a 1x1 convolution of one pixel. Every weight is used once, so decoding is all
// that counts: ids go from the decoder straight into the dot product, never as floats through memory.
#include <algorithm>
#include <limits>

#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_reader.h"

namespace tflite_smart {
namespace {

// Below this many weights another thread costs more than it brings: those that must be decoded take three times as long.
constexpr uint64_t kMinThreadedWeights = 100000, kMinDecodedWeights = 30000;

void StorePanel(const ConvLayer& layer, uint32_t panel, float* sums) {
  const uint32_t first = panel * kLanes, width = layer.weight->panel_width(panel);
  const Epilogue e = PanelEpilogue(layer, first);
  const auto run = ActiveIsa().f32->binary;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  run(Binary::kMul, {sums, e.scale, false, width, -kInfinity, kInfinity, sums});
  run(Binary::kAdd, {sums, e.bias, false, width, e.min, e.max, layer.y + first});
}

// Whether the ids of a tile lie as the kernel reads them, as kept ones do: nothing to decode.
bool LiesInPlace(const PackedWeight& weight, uint32_t tile) {
  return weight.codec == Codec::kRaw && weight.value_kind != ValueKind::kDependent && weight.panels_per_tile == 1 && weight.panel_width(tile) == kLanes;
}

void MultiplyInPlace(const ConvLayer& layer, uint32_t tile, uint32_t tiles) {
  const PackedWeight& weight = *layer.weight;
  float sums[kMaxSideBySide][kLanes] = {};
  for (uint32_t k = 0; k < weight.channel_elements; k += kMaxRowPiece) {
    const int8_t* at[kMaxSideBySide];
    for (uint32_t i = 0; i < tiles; ++i) at[i] = reinterpret_cast<const int8_t*>(weight.tile_begin(tile + i)) + k * size_t{kLanes};
    ActiveIsa().f32->multiply_ids(at, tiles, layer.x + k, std::min(kMaxRowPiece, weight.channel_elements - k), IdOffset(weight), sums);
  }
  for (uint32_t i = 0; i < tiles; ++i) StorePanel(layer, tile + i, sums[i]);
}

// Panel `p` of each of `tiles` tiles.
Status MultiplyPanels(const ConvLayer& layer, PanelReader* readers, uint32_t tile, uint32_t tiles, uint32_t p, Scratch* scratch) {
  constexpr uint32_t kPiece = kMaxRowPiece;  // the same for every codec, as it decides how sums are rounded
  const PackedWeight& weight = *layer.weight;
  const float offset = IdOffset(weight);
  int8_t* const ids[kMaxSideBySide] = {scratch->ids[0], scratch->ids[1], scratch->ids[2], scratch->ids[3]};
  PanelReader* const together[kMaxSideBySide] = {&readers[0], &readers[1], &readers[2], &readers[3]};
  float sums[kMaxSideBySide][kLanes] = {};
  for (uint32_t k = 0; k < weight.channel_elements; k += kPiece) {
    const uint32_t count = std::min(kPiece, weight.channel_elements - k);
    const int8_t* at[kMaxSideBySide];
    TFS_RETURN_IF_ERROR(PanelReader::ReadIdsSideBySide(together, tiles, count, ids, at));
    ActiveIsa().f32->multiply_ids(at, tiles, layer.x + k, count, offset, sums);
  }
  for (uint32_t i = 0; i < tiles; ++i) StorePanel(layer, weight.first_panel(tile + i) + p, sums[i]);
  return Status();
}

Status RunTiles(const ConvLayer& layer, uint32_t tile, uint32_t tiles, Scratch* scratch) {
  const PackedWeight& weight = *layer.weight;
  if (LiesInPlace(weight, tile + tiles - 1)) {  // and so do all before
    MultiplyInPlace(layer, tile, tiles);
    return Status();
  }
  PanelReader readers[kMaxSideBySide];
  for (uint32_t i = 0; i < tiles; ++i) TFS_RETURN_IF_ERROR(readers[i].Start(weight, weight.first_panel(tile + i), scratch->ids[0]));
  for (uint32_t p = 0; p < weight.tile_panels(tile); ++p) {
    if (p >= weight.tile_panels(tile + tiles - 1)) --tiles;  // only the weight's last tile has fewer panels
    TFS_RETURN_IF_ERROR(MultiplyPanels(layer, readers, tile, tiles, p, scratch));
  }
  return Status();
}

}  // namespace

bool IsVector(const ConvLayer& layer) {
  const ConvGeometry& g = layer.geometry;
  return g.positions() == 1 && g.groups() == 1 && g.in_height == 1 && g.in_width == 1 && g.filter_height == 1 && g.filter_width == 1 &&
         layer.weight->values_are_ids();
}

Status RunConv2DVector(Runtime* runtime, const ConvLayer& layer) {
  const PackedWeight& weight = *layer.weight;
  const uint64_t min_weights = weight.codec == Codec::kRaw ? kMinThreadedWeights : kMinDecodedWeights;
  const uint32_t threads = weight.num_elements() < min_weights ? 1 : static_cast<uint32_t>(runtime->threads.num_threads());
  const uint32_t step = std::max(1u, std::min(kMaxSideBySide, weight.num_tiles / threads));
  const size_t tasks = threads == 1 ? 1 : (weight.num_tiles + step - 1) / step;
  return runtime->threads.ParallelFor(tasks, [&](size_t task) {
    ScratchPool::Lease scratch(&runtime->scratch);
    if (scratch.get() == nullptr) return NoScratch();
    const uint32_t begin = static_cast<uint32_t>(task) * step, end = tasks == 1 ? weight.num_tiles : std::min(weight.num_tiles, begin + step);
    for (uint32_t tile = begin; tile < end; tile += step) {
      TFS_RETURN_IF_ERROR(RunTiles(layer, tile, std::min(step, end - tile), scratch.get()));
    }
    return Status();
  });
}

}  // namespace tflite_smart
