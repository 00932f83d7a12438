// Depthwise convolutions with several outputs per input channel, and grouped ones with few channels a group: one output channel a lane.
#include <algorithm>

#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// A depthwise panel's k is small (9 for 3x3), so a piece is nearly always all of it.
constexpr uint32_t kMaxLanesPiece = 2048;
static_assert(kMaxLanesPiece * kLanes <= kBatchFloats && kMaxLanesPiece <= kMaxTaps && kMaxLanesPiece % kLanes == 0 && kMaxLanesPiece >= kMaxGroupedPiece, "");

// Pointers are worth their while for a few positions at a time; more would only push the input out of the cache.
constexpr uint32_t kMaxPositions = 32;

// The pixel under each tap of one position's window; null outside the image.
void FindTaps(const ConvGeometry& g, const float* image, const Position& position, uint32_t first_tap, uint32_t num_taps,
              const float** taps) {
  const uint32_t width = static_cast<uint32_t>(g.filter_width);
  uint32_t column = first_tap % width;
  int32_t y = position.InputY(g) + static_cast<int32_t>(first_tap / width) * g.dilation_height;
  for (uint32_t i = 0; i < num_taps; ++i) {
    const int32_t x = position.InputX(g) + static_cast<int32_t>(column) * g.dilation_width;
    const bool inside = y >= 0 && y < g.in_height && x >= 0 && x < g.in_width;
    taps[i] = inside ? image + (static_cast<int64_t>(y) * g.in_width + x) * g.in_channels : nullptr;
    if (++column == width) {
      column = 0;
      y += g.dilation_height;
    }
  }
}

// Where the lanes of a panel read, relative to a pixel.
struct LaneOffsets {
  int32_t offsets[kLanes];

  LaneOffsets(const ConvGeometry& g, int32_t first_channel) {
    for (int32_t j = 0; j < static_cast<int32_t>(kLanes); ++j) {
      const int32_t channel = std::min(first_channel + j, g.out_channels - 1);
      offsets[j] = channel / g.channels_per_group() * g.filter_in;
    }
  }
};

void MultiplyLanes(const void* context, const Batch& batch, Scratch* scratch) {
  const ConvLayer& layer = *static_cast<const ConvLayer*>(context);
  const ConvGeometry& g = layer.geometry;
  const FloatKernels& kernels = *ActiveIsa().f32;
  const uint32_t filter_in = static_cast<uint32_t>(g.filter_in);
  const uint32_t first_tap = batch.first_k / filter_in;

  LaneTile tile;
  tile.num_taps = (batch.first_k + batch.num_k - 1) / filter_in - first_tap + 1;
  tile.filter_in = filter_in;
  tile.first_in = batch.first_k % filter_in;
  tile.k = batch.num_k;
  tile.taps = scratch->taps;
  tile.c_stride = static_cast<size_t>(g.out_channels);
  tile.accumulate = batch.first_k != 0;
  const uint32_t step = std::min(kMaxPositions, kMaxTaps / tile.num_taps);
  for (int64_t m = batch.begin_position; m < batch.end_position; m += step) {
    tile.positions = static_cast<uint32_t>(std::min<int64_t>(step, batch.end_position - m));
    Position position(g, m);
    for (uint32_t p = 0; p < tile.positions; ++p) {
      FindTaps(g, position.Image(g, layer.x), position, first_tap, tile.num_taps, scratch->taps + p * tile.num_taps);
      position.Advance(g);
    }
    for (uint32_t i = 0; i < batch.num_panels; ++i) {
      const int32_t first = static_cast<int32_t>((batch.first_panel + i * batch.panel_step) * kLanes);
      const LaneOffsets lanes(g, first);
      const Epilogue epilogue = PanelEpilogue(layer, static_cast<uint32_t>(first));
      tile.lanes = lanes.offsets;
      tile.columns = static_cast<uint32_t>(std::min(static_cast<int32_t>(kLanes), g.out_channels - first));
      tile.b = scratch->panels + i * static_cast<size_t>(batch.slot_k) * kLanes;
      tile.c = layer.y + m * g.out_channels + first;
      tile.epilogue = batch.last ? &epilogue : nullptr;
      kernels.lanes(tile);
    }
  }
}

}  // namespace

Status RunConv2DLanes(Runtime* runtime, const ConvLayer& layer) {
  const Schedule schedule = MakeSchedule(*layer.weight, layer.geometry.positions(), runtime->threads.num_threads(), kMaxLanesPiece, 1);
  return RunSchedule(runtime, *layer.weight, schedule, MultiplyLanes, &layer);
}

}  // namespace tflite_smart
