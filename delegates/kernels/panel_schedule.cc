#include "kernels/panel_schedule.h"

#include <algorithm>

namespace tflite_smart {
namespace {

constexpr uint32_t kMaxLockstep = 8;
static_assert(kMaxLockstep % kMaxSideBySide == 0 && kMaxSideBySide == 4, "the arrays of pointers below");

// Below this many multiplications another thread costs more than it brings. Few: neighbouring layers that are shared out alike read what their own
// thread has written.
constexpr uint64_t kMinThreadedWork = 30000;

// Decoding an id costs about as much as multiplying it at so many positions. So a tile that is decoded again for another cut of the positions
// should meet several times as many of them in each ...
constexpr int64_t kDecodePositions = 7, kMinPositions = 24;

// ... or fewer if there is nothing to decode, ...
constexpr int64_t kMinPositionsRaw = 12;

// ... and many times as many in cuts beyond one a thread, which only even out what threads are delayed by.
constexpr int64_t kMinSparePositions = 192;

// Where there is nothing to decode, so few panels are multiplied at once that they stay in the first-level cache: 24 KB.
constexpr uint32_t kFirstLevelFloats = 6144;

template <typename T>
T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

// Whether threads that share the tiles are so much sooner done than threads that share the positions and decode each for itself, that it pays for what
// they then read from each other.
bool DecodesLess(int64_t tiles, int64_t positions, int64_t threads) {
  const int64_t by_tiles = CeilDiv(tiles, threads) * threads * (kDecodePositions + positions);
  const int64_t by_positions = tiles * (kDecodePositions * threads + positions);
  return 16 * by_tiles < 15 * by_positions;
}

}  // namespace

Cuts Cuts::Make(int64_t total, int64_t step, int64_t parts) { return {total, step, std::max<int64_t>(1, std::min(parts, CeilDiv(total, step)))}; }

int64_t Cuts::Begin(int64_t part) const { return std::min(total, CeilDiv(total, step) * part / parts * step); }

Schedule MakeSchedule(const PackedWeight& weight, int64_t positions, int num_threads, uint32_t max_piece, uint32_t position_step) {
  Schedule s;
  const uint32_t k = weight.channel_elements;
  const uint64_t tile_k = static_cast<uint64_t>(k) * weight.panels_per_tile;
  s.lockstep = k > max_piece || weight.panels_per_tile > kMaxBatchPanels || tile_k * std::min(2u, weight.num_tiles) > kMaxPiece;
  if (s.lockstep) {
    max_piece = weight.piece(std::min(max_piece, kMaxPiece / kMaxLockstep));
    s.batch_tiles = std::min(kMaxLockstep, kMaxPiece / max_piece);
  } else {
    s.batch_tiles = std::min(kMaxPiece / static_cast<uint32_t>(tile_k), kMaxBatchPanels / weight.panels_per_tile);
    if (s.batch_tiles > 1) s.batch_tiles -= s.batch_tiles % (s.batch_tiles > kMaxSideBySide ? kMaxSideBySide : 2);
    s.tiles_at_once = weight.codec == Codec::kRaw ? std::max(1u, kFirstLevelFloats / static_cast<uint32_t>(tile_k * kLanes)) : s.batch_tiles;
  }
  const uint32_t pieces = CeilDiv(k, max_piece);
  s.piece = pieces == 1 ? k : CeilDiv(CeilDiv(k, pieces), weight.piece_step) * weight.piece_step;

  const uint64_t work = weight.num_elements() * static_cast<uint64_t>(positions);
  const uint32_t threads = work < kMinThreadedWork ? 1 : static_cast<uint32_t>(num_threads);
  const int64_t min_positions = weight.codec == Codec::kRaw ? kMinPositionsRaw : kMinPositions;
  int64_t cuts = threads;
  if (positions >= 2 * cuts * kMinSparePositions) cuts *= 2;
  s.positions = Cuts::Make(positions, position_step, std::min(cuts, positions / min_positions));
  if (weight.codec != Codec::kRaw && DecodesLess(weight.num_tiles, positions, threads)) s.positions.parts = 1;
  const bool enough = s.positions.parts >= static_cast<int64_t>(threads);
  const int64_t batches = CeilDiv(weight.num_tiles, s.batch_tiles);
  s.tiles = enough ? Cuts::Make(weight.num_tiles, s.batch_tiles, batches) : Cuts::Make(weight.num_tiles, 1, CeilDiv<int64_t>(batches, threads) * threads);
  s.num_tasks = static_cast<size_t>(s.tiles.parts * s.positions.parts);
  return s;
}

namespace {

// A batch of whole tiles from `tile`.
Status ReadTiles(const PackedWeight& weight, uint32_t tile, uint32_t tiles, Scratch* scratch) {
  const size_t panel_floats = static_cast<size_t>(weight.channel_elements) * kLanes;
  const size_t step = panel_floats * weight.panels_per_tile;
  int8_t* const ids[kMaxSideBySide] = {scratch->ids[0], scratch->ids[1], scratch->ids[2], scratch->ids[3]};
  for (uint32_t i = 0; i < tiles; i += kMaxSideBySide) {
    PanelReader readers[kMaxSideBySide];
    PanelReader* const together[kMaxSideBySide] = {&readers[0], &readers[1], &readers[2], &readers[3]};
    uint32_t now = std::min(kMaxSideBySide, tiles - i);
    for (uint32_t r = 0; r < now; ++r) TFS_RETURN_IF_ERROR(readers[r].Start(weight, weight.first_panel(tile + i + r), ids[0]));
    for (uint32_t p = 0; p < weight.tile_panels(tile + i); ++p) {
      if (p >= weight.tile_panels(tile + i + now - 1)) --now;  // only the weight's last tile has fewer panels
      float* values = scratch->panels + i * step + p * panel_floats;
      TFS_RETURN_IF_ERROR(PanelReader::ReadSideBySide(together, now, weight.channel_elements, ids, values, step));
    }
  }
  return Status();
}

}  // namespace

Status RunTask(const PackedWeight& weight, const Schedule& s, size_t task, Scratch* scratch, Multiply multiply, const void* layer) {
  const uint32_t tile = s.BeginTile(task);
  uint32_t tiles = s.EndTile(task) - tile;
  const uint32_t first_panel = weight.first_panel(tile), k = weight.channel_elements;
  const int64_t begin = s.BeginPosition(task), end = s.EndPosition(task);
  if (!s.lockstep) {
    for (uint32_t i = 0, now; i < tiles; i += now) {
      now = std::min(s.tiles_at_once, tiles - i);
      TFS_RETURN_IF_ERROR(ReadTiles(weight, tile + i, now, scratch));
      const uint32_t panels = (now - 1) * weight.panels_per_tile + weight.tile_panels(tile + i + now - 1);
      multiply(layer, {first_panel + i * weight.panels_per_tile, 1, panels, k, 0, k, true, begin, end}, scratch);
    }
    return Status();
  }
  PanelReader readers[kMaxLockstep];
  int8_t* const ids[kMaxSideBySide] = {scratch->ids[0], scratch->ids[1], scratch->ids[2], scratch->ids[3]};
  for (uint32_t i = 0; i < tiles; ++i) TFS_RETURN_IF_ERROR(readers[i].Start(weight, weight.first_panel(tile + i), scratch->ids[0]));
  for (uint32_t p = 0; p < weight.tile_panels(tile); ++p) {
    if (p >= weight.tile_panels(tile + tiles - 1)) --tiles;  // only the weight's last tile has fewer panels
    for (uint32_t first_k = 0; first_k < k; first_k += s.piece) {
      const uint32_t num_k = std::min(s.piece, k - first_k);
      const size_t step = static_cast<size_t>(s.piece) * kLanes;
      for (uint32_t i = 0; i < tiles; i += kMaxSideBySide) {
        PanelReader* const together[kMaxSideBySide] = {&readers[i], &readers[i + 1], &readers[i + 2], &readers[i + 3]};
        const uint32_t now = std::min(kMaxSideBySide, tiles - i);
        TFS_RETURN_IF_ERROR(PanelReader::ReadSideBySide(together, now, num_k, ids, scratch->panels + i * step, step));
      }
      multiply(layer, {first_panel + p, weight.panels_per_tile, tiles, s.piece, first_k, num_k, first_k + num_k == k, begin, end}, scratch);
    }
  }
  return Status();
}

Status RunSchedule(Runtime* runtime, const PackedWeight& weight, const Schedule& schedule, Multiply multiply, const void* layer) {
  return runtime->threads.ParallelFor(schedule.num_tasks, [&](size_t task) {
    ScratchPool::Lease scratch(&runtime->scratch);
    if (scratch.get() == nullptr) return NoScratch();
    return RunTask(weight, schedule, task, scratch.get(), multiply, layer);
  });
}

}  // namespace tflite_smart
