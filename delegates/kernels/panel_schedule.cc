#include "kernels/panel_schedule.h"

#include <algorithm>

namespace tflite_smart {
namespace {

// With fewer whole panels than this in the scratch, lockstep over more of them is better.
constexpr uint32_t kMinWholePanels = 4;
constexpr uint32_t kMaxLockstep = 8;

// Below this many multiplications waking a thread costs more than it brings.
constexpr uint64_t kMinThreadedWork = 200000;

// Decoding an id costs about as much as multiplying it at 7 positions. So a tile that is decoded again for another cut of the positions
// should meet several times as many of them in each.
constexpr int64_t kMinPositions = 48;

// Four tasks a thread even out what the tasks differ in.
constexpr int64_t kTasksPerThread = 4;

template <typename T>
T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace

Schedule MakeSchedule(const PackedWeight& weight, int64_t positions, int num_threads, uint32_t max_piece, uint32_t position_step) {
  Schedule s;
  const uint32_t k = weight.channel_elements;
  s.lockstep = weight.panels_per_tile == 1 && k > kMaxPiece / kMinWholePanels;
  if (s.lockstep) max_piece = std::min(max_piece, kMaxPiece / kMaxLockstep);
  const uint32_t pieces = CeilDiv(k, max_piece);
  s.piece = pieces == 1 ? k : CeilDiv(CeilDiv(k, pieces), kLanes) * kLanes;
  s.batch_panels = std::min(kMaxPiece / s.piece, s.lockstep ? kMaxLockstep : kMaxBatchPanels);
  if (pieces > 1 && !s.lockstep) s.batch_panels = 1;

  const uint64_t work = weight.num_elements() * static_cast<uint64_t>(positions);
  const uint32_t threads = work < kMinThreadedWork ? 1 : static_cast<uint32_t>(num_threads);
  s.tiles_per_task = std::max(1u, s.batch_panels / weight.panels_per_tile);
  s.tiles_per_task = std::min(s.tiles_per_task, CeilDiv(weight.num_tiles, threads));
  s.tile_tasks = CeilDiv(weight.num_tiles, s.tiles_per_task);

  int64_t cuts = 1;
  if (threads > 1) cuts = std::min(CeilDiv<int64_t>(kTasksPerThread * threads, s.tile_tasks), positions / kMinPositions);
  cuts = std::max<int64_t>(cuts, 1);
  s.positions = positions;
  s.positions_per_task = std::max<int64_t>(1, CeilDiv<int64_t>(CeilDiv(positions, cuts), position_step) * position_step);
  s.num_tasks = static_cast<size_t>(s.tile_tasks * CeilDiv(positions, s.positions_per_task));
  return s;
}

Status RunTask(const PackedWeight& weight, const Schedule& s, size_t task, Scratch* scratch, Multiply multiply, const void* layer) {
  const uint32_t first_tile = static_cast<uint32_t>(task % s.tile_tasks) * s.tiles_per_task;
  const uint32_t end_tile = std::min(weight.num_tiles, first_tile + s.tiles_per_task);
  const uint32_t end_panel = end_tile == weight.num_tiles ? weight.num_panels : weight.first_panel(end_tile);
  const int64_t begin = static_cast<int64_t>(task / s.tile_tasks) * s.positions_per_task;
  const int64_t end = std::min(s.positions, begin + s.positions_per_task);
  const uint32_t k = weight.channel_elements;
  int8_t* const ids[2] = {scratch->ids[0], scratch->ids[1]};

  PanelReader readers[kMaxLockstep];
  uint32_t panel = weight.first_panel(first_tile);
  if (!s.lockstep) TFS_RETURN_IF_ERROR(readers[0].Start(weight, panel, ids[0]));
  while (panel < end_panel) {
    const uint32_t count = std::min(s.batch_panels, end_panel - panel);
    for (uint32_t i = 0; s.lockstep && i < count; ++i) TFS_RETURN_IF_ERROR(readers[i].Start(weight, panel + i, ids[0]));
    for (uint32_t first_k = 0; first_k < k; first_k += s.piece) {
      const uint32_t num_k = std::min(s.piece, k - first_k);
      const size_t stride = static_cast<size_t>(s.piece) * kLanes;
      uint32_t i = 0;
      for (; s.lockstep && i + 2 <= count; i += 2) {
        PanelReader* pair[2] = {&readers[i], &readers[i + 1]};
        float* const values[2] = {scratch->panels + i * stride, scratch->panels + (i + 1) * stride};
        TFS_RETURN_IF_ERROR(PanelReader::ReadPair(pair, num_k, ids, values));
      }
      for (; i < count; ++i) {
        TFS_RETURN_IF_ERROR(readers[s.lockstep ? i : 0].Read(num_k, ids[0], scratch->panels + i * stride));
      }
      multiply(layer, {panel, count, s.piece, first_k, num_k, first_k + num_k == k, begin, end}, scratch);
    }
    panel += count;
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
