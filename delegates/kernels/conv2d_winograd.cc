// 3x3 convolutions with stride 1 by Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv:1509.09308): 16 multiplications instead of 36 for four
// outputs.
//
// READ FIRST
// * A tile is 2x2 outputs and the 4x4 inputs they see: y = A' [(G g G') * (B' d B)] A. For each of the 16 elements of the product the sum over the
//   input channels is a GEMM whose rows are tiles, and runs on the same kernel as any other convolution.
// * Filters are transformed from the decoded ids, two panels at a time and kWinogradPiece channels of each, so that they stay in the
//   second-level cache. The transform needs all nine taps of a channel, but a panel stores tap after tap: so a panel's ids are all
//   decoded first, which bounds the channels.
// * Ids are small whole numbers, so the transformed filters are exact. What remains of Winograd's rounding is that of sums of four inputs and of nine
//   products: some bits of float32 (F(4x4, 3x3) would lose several digits).
// * Between two pieces of channels the partial sums wait in the output, transformed back: the transform is linear.
#include <algorithm>
#include <cstring>

#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_reader.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

constexpr int32_t kTaps = 9;
constexpr int32_t kStep = 2;  // outputs of a tile, in each direction

// With fewer channels the transforms cost more than the multiplications saved: a tenth with 16.
constexpr int32_t kMinChannels = 17;

// A cut of the tiles decodes and transforms the filters again: see panel_schedule.cc.
constexpr int64_t kMinTiles = 24;
constexpr int64_t kMinSpareTiles = 96;

struct Plan {
  const ConvLayer* layer;
  int32_t tiles_x, tiles_y;
  Cuts tiles;
  uint32_t panels_per_task;  // two, which share the transformed inputs, or one where that gives too few tasks
  uint32_t panel_tasks;
  size_t num_tasks;
};

// What is worked on for all tiles of a task: some channels of the input, one or two panels of the output.
struct Piece {
  int32_t first_channel;
  uint32_t channels;
  uint32_t panel, panels;
};

struct TileAt {
  int32_t batch, y, x;  // of the first output

  TileAt(const Plan& p, int64_t tile)
      : batch(static_cast<int32_t>(tile / (static_cast<int64_t>(p.tiles_x) * p.tiles_y))),
        y(static_cast<int32_t>(tile / p.tiles_x % p.tiles_y) * kStep),
        x(static_cast<int32_t>(tile % p.tiles_x) * kStep) {}
};

// All ids of `count` panels from `first`, one panel after the other.
Status ReadPanels(const PackedWeight& weight, uint32_t first, uint32_t count, Scratch* scratch) {
  PanelReader readers[2];
  const uint32_t k = weight.channel_elements;
  int8_t* out[2] = {scratch->window_ids[0], scratch->window_ids[1]};
  const bool alone = count == 1 || weight.panels_per_tile != 1;
  for (uint32_t i = 0; i < count; ++i) {
    const bool goes_on = i > 0 && (first + i) % weight.panels_per_tile != 0;
    if (!goes_on) TFS_RETURN_IF_ERROR(readers[alone ? 0 : i].Start(weight, first + i, out[i]));
    for (uint32_t done = 0; alone && done < k; done += kMaxChunk) {
      TFS_RETURN_IF_ERROR(readers[0].ReadIds(std::min(kMaxChunk, k - done), out[i] + static_cast<size_t>(done) * kLanes));
    }
  }
  PanelReader* const both[2] = {&readers[0], &readers[1]};
  for (uint32_t done = 0; !alone && done < k; done += kMaxChunk) {
    int8_t* const ids[2] = {out[0] + static_cast<size_t>(done) * kLanes, out[1] + static_cast<size_t>(done) * kLanes};
    TFS_RETURN_IF_ERROR(PanelReader::ReadIdsSideBySide(both, 2, std::min(kMaxChunk, k - done), ids));
  }
  return Status();
}

// Channels c..c+count of the 4x4 inputs of one tile, transformed.
void TransformInput(const ConvLayer& layer, const TileAt& at, int32_t c, uint32_t count, float* v) {
  const ConvGeometry& g = layer.geometry;
  const FloatKernels& kernels = *ActiveIsa().f32;
  const size_t channels = static_cast<size_t>(g.in_channels);
  constexpr size_t kStride = kWinogradTiles * kWinogradPiece;
  const int32_t y0 = at.y - g.pad_top, x0 = at.x - g.pad_left;
  const float* image = layer.x + static_cast<int64_t>(at.batch) * g.in_height * g.in_width * g.in_channels + c;
  if (y0 >= 0 && x0 >= 0 && y0 + kWinogradEdge <= g.in_height && x0 + kWinogradEdge <= g.in_width) {
    const float* x = image + (static_cast<int64_t>(y0) * g.in_width + x0) * g.in_channels;
    kernels.winograd_input(x, channels * static_cast<size_t>(g.in_width), channels, count, v, kStride);
    return;
  }
  float window[kWinogradEdge][kWinogradEdge][kWinogradPiece];
  for (int32_t i = 0; i < kWinogradEdge; ++i) {
    for (int32_t j = 0; j < kWinogradEdge; ++j) {
      const int32_t y = y0 + i, x = x0 + j;
      if (y >= 0 && y < g.in_height && x >= 0 && x < g.in_width) {
        std::memcpy(window[i][j], image + (static_cast<int64_t>(y) * g.in_width + x) * g.in_channels, count * sizeof(float));
      } else {
        std::memset(window[i][j], 0, count * sizeof(float));
      }
    }
  }
  kernels.winograd_input(window[0][0], kWinogradEdge * kWinogradPiece, kWinogradPiece, count, v, kStride);
}

// The outputs of up to kWinogradTiles tiles from `first_tile`, from scratch->products.
void TransformOutput(const Plan& plan, int64_t first_tile, uint32_t count, uint32_t panel, WinogradTile tile, Scratch* scratch) {
  const ConvGeometry& g = plan.layer->geometry;
  const uint32_t channel = panel * kLanes;
  tile.m_stride = kWinogradTiles * kLanes;
  tile.columns = std::min(kLanes, static_cast<uint32_t>(g.out_channels) - channel);
  for (uint32_t t = 0; t < count; ++t) {
    const TileAt at(plan, first_tile + t);
    for (int32_t i = 0; i < kStep; ++i) {
      for (int32_t j = 0; j < kStep; ++j) {
        const int64_t position = (static_cast<int64_t>(at.batch) * g.out_height + at.y + i) * g.out_width + at.x + j;
        const bool inside = at.y + i < g.out_height && at.x + j < g.out_width;
        tile.c[i][j] = inside ? plan.layer->y + position * g.out_channels + channel : nullptr;
      }
    }
    tile.m = scratch->products + t * kLanes;
    ActiveIsa().f32->winograd_output(tile);
  }
}

// One piece of up to kWinogradTiles tiles.
void MultiplyTiles(const Plan& plan, const Piece& piece, int64_t first_tile, uint32_t tiles, Scratch* scratch) {
  const ConvLayer& layer = *plan.layer;
  const FloatKernels& kernels = *ActiveIsa().f32;
  for (uint32_t t = 0; t < tiles; ++t) {
    TransformInput(layer, TileAt(plan, first_tile + t), piece.first_channel, piece.channels, scratch->inputs + t * kWinogradPiece);
  }
  for (uint32_t i = 0; i < piece.panels; ++i) {
    GemmTile gemm = {};
    gemm.a_stride = kWinogradPiece;
    gemm.k = piece.channels;
    gemm.c_stride = kLanes;
    gemm.end_column = kLanes;
    for (uint32_t e = 0; e < kWinogradEdge * kWinogradEdge; ++e) {
      gemm.b = scratch->panels + ((i * kWinogradEdge * kWinogradEdge + e) * static_cast<size_t>(kWinogradPiece)) * kLanes;
      for (uint32_t t = 0; t < tiles; t += kernels.gemm_rows) {
        gemm.rows = std::min(kernels.gemm_rows, tiles - t);
        gemm.a = scratch->inputs + (e * kWinogradTiles + t) * kWinogradPiece;
        gemm.c = scratch->products + (e * kWinogradTiles + t) * kLanes;
        kernels.gemm(gemm);
      }
    }
    const Epilogue epilogue = PanelEpilogue(layer, (piece.panel + i) * kLanes);
    WinogradTile out = {};
    out.accumulate = piece.first_channel != 0;
    out.epilogue = piece.first_channel + static_cast<int32_t>(piece.channels) == layer.geometry.in_channels ? &epilogue : nullptr;
    TransformOutput(plan, first_tile, tiles, piece.panel + i, out, scratch);
  }
}

Status RunTask(const Plan& plan, size_t task, Scratch* scratch) {
  const PackedWeight& weight = *plan.layer->weight;
  const uint32_t panel = static_cast<uint32_t>(task % plan.panel_tasks) * plan.panels_per_task;
  const uint32_t panels = std::min(plan.panels_per_task, weight.num_panels - panel);
  const int64_t part = static_cast<int64_t>(task / plan.panel_tasks), begin = plan.tiles.Begin(part), end = plan.tiles.Begin(part + 1);
  const int32_t channels = plan.layer->geometry.in_channels;
  const int32_t num_pieces = (channels + static_cast<int32_t>(kWinogradPiece) - 1) / static_cast<int32_t>(kWinogradPiece);
  const int32_t step = (channels + num_pieces - 1) / num_pieces;
  constexpr size_t kElement = static_cast<size_t>(kWinogradPiece) * kLanes;
  TFS_RETURN_IF_ERROR(ReadPanels(weight, panel, panels, scratch));
  for (int32_t c = 0; c < channels; c += step) {
    const Piece piece = {c, static_cast<uint32_t>(std::min(step, channels - c)), panel, panels};
    for (uint32_t i = 0; i < panels; ++i) {
      ActiveIsa().f32->winograd_filter(scratch->window_ids[i] + static_cast<size_t>(c) * kLanes, static_cast<size_t>(channels) * kLanes, piece.channels,
                                       IdOffset(weight), scratch->panels + i * kWinogradEdge * kWinogradEdge * kElement, kElement);
    }
    for (int64_t tile = begin; tile < end; tile += kWinogradTiles) {
      const uint32_t tiles = static_cast<uint32_t>(std::min<int64_t>(kWinogradTiles, end - tile));
      MultiplyTiles(plan, piece, tile, tiles, scratch);
    }
  }
  return Status();
}

Plan MakePlan(const ConvLayer& layer, int num_threads) {
  const ConvGeometry& g = layer.geometry;
  Plan p;
  p.layer = &layer;
  p.tiles_x = (g.out_width + kStep - 1) / kStep;
  p.tiles_y = (g.out_height + kStep - 1) / kStep;
  const int64_t tiles = static_cast<int64_t>(g.batch) * p.tiles_x * p.tiles_y;
  int64_t cuts = num_threads;
  if (tiles >= 2 * cuts * kMinSpareTiles) cuts *= 2;
  p.tiles = Cuts::Make(tiles, kWinogradTiles, std::min(cuts, tiles / kMinTiles));
  const uint32_t panels = layer.weight->num_panels;
  p.panels_per_task = p.tiles.parts * ((panels + 1) / 2) >= num_threads ? 2 : 1;
  p.panel_tasks = (panels + p.panels_per_task - 1) / p.panels_per_task;
  p.num_tasks = static_cast<size_t>(p.panel_tasks * p.tiles.parts);
  return p;
}

}  // namespace

bool IsWinograd(const ConvLayer& layer) {
  const ConvGeometry& g = layer.geometry;
  if (g.filter_height != 3 || g.filter_width != 3 || g.stride_height != 1 || g.stride_width != 1 || g.dilation_height != 1 ||
      g.dilation_width != 1 || g.groups() != 1 || !layer.weight->values_are_ids()) {
    return false;
  }
  if (g.in_channels < kMinChannels || g.in_channels > static_cast<int32_t>(kWinogradMaxChannels)) return false;
  // Small or odd images have outputs in their tiles that nobody wants: 16 multiplications a tile must be clearly below 9 an output.
  const Plan plan = MakePlan(layer, 1);
  return plan.tiles.total >= kWinogradTiles && 16 * 4 * plan.tiles.total <= 9 * 3 * g.positions();
}

Status RunConv2DWinograd(Runtime* runtime, const ConvLayer& layer) {
  const Plan plan = MakePlan(layer, runtime->threads.num_threads());
  return runtime->threads.ParallelFor(plan.num_tasks, [&](size_t task) {
    ScratchPool::Lease scratch(&runtime->scratch);
    if (scratch.get() == nullptr) return NoScratch();
    return RunTask(plan, task, scratch.get());
  });
}

}  // namespace tflite_smart
