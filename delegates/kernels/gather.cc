#include "kernels/gather.h"

#include <algorithm>

#include "kernels/isa.h"
#include "kernels/panel_reader.h"

namespace tflite_smart {
namespace {

bool Before(const GatherRow& a, const GatherRow& b) { return a.row != b.row ? a.row < b.row : a.place < b.place; }

// Where the rows that lie in the same group of `channels` channels as rows[begin] end.
size_t EndOfGroup(const GatherRow* rows, size_t begin, size_t end, uint64_t channels) {
  const uint64_t group = rows[begin].row / channels;
  return static_cast<size_t>(
      std::partition_point(rows + begin, rows + end, [&](const GatherRow& r) { return r.row / channels == group; }) - rows);
}

// All wanted rows rows[begin, end) of one tile, panel after panel. What lies behind the last wanted panel is not decoded.
Status GatherFromTile(const PackedWeight& weight, const GatherRow* rows, size_t begin, size_t end, Scratch* scratch, float* out) {
  PanelReader reader;
  const uint32_t k_total = weight.channel_elements;
  TFS_RETURN_IF_ERROR(reader.Start(weight, rows[begin].row / kLanes, scratch->ids[0]));
  while (begin < end) {
    TFS_RETURN_IF_ERROR(reader.SkipTo(rows[begin].row / kLanes, scratch->ids[0]));
    const size_t panel_end = EndOfGroup(rows, begin, end, kLanes);
    for (uint32_t k = 0, num_k; k < k_total; k += num_k) {
      num_k = std::min(weight.piece(kMaxChunk), k_total - k);
      TFS_RETURN_IF_ERROR(reader.Read(num_k, scratch->ids[0], scratch->panels));
      for (size_t i = begin; i < panel_end; ++i) {
        const float* column = scratch->panels + rows[i].row % kLanes;
        float* to = out + static_cast<size_t>(rows[i].place) * k_total + k;
        ActiveIsa().f32->scale_transposed(column, weight.scales + rows[i].row, num_k, 1, to, 0);
      }
    }
    begin = panel_end;
  }
  return Status();
}

}  // namespace

Status GatherRows(Runtime* runtime, const PackedWeight& weight, GatherRow* rows, size_t num_rows, float* out) {
  std::sort(rows, rows + num_rows, Before);
  const uint64_t tile_channels = static_cast<uint64_t>(weight.panels_per_tile) * kLanes;
  // A task is a stretch of the sorted rows that begins and ends between two tiles.
  const size_t tasks = std::min<size_t>(num_rows, static_cast<size_t>(runtime->threads.num_threads()) * 4);
  const auto cut = [&](size_t i) {
    const size_t at = num_rows * i / tasks;
    return at == 0 || at == num_rows ? at : EndOfGroup(rows, at - 1, num_rows, tile_channels);
  };
  return runtime->threads.ParallelFor(tasks, [&](size_t task) {
    ScratchPool::Lease scratch(&runtime->scratch);
    if (scratch.get() == nullptr) return NoScratch();
    for (size_t begin = cut(task), end = cut(task + 1); begin < end;) {
      const size_t tile_end = EndOfGroup(rows, begin, end, tile_channels);
      TFS_RETURN_IF_ERROR(GatherFromTile(weight, rows, begin, tile_end, scratch.get(), out));
      begin = tile_end;
    }
    return Status();
  });
}

}  // namespace tflite_smart
