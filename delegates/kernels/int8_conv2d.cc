#include "kernels/int8_conv2d.h"

#include <algorithm>
#include <cstring>

#include "kernels/int8_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_reader.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

constexpr uint32_t kChunkGroups = kInt8RowBytes / sizeof(int32_t);

// How the floats of each row of a tile were quantized.
void FillQuantization(const Int8Layer& layer, Position position, uint32_t rows, Quantization* quantization) {
  for (uint32_t r = 0; r < rows; ++r) {
    quantization[r] = layer.images[position.batch];
    position.Advance(layer.geometry);
  }
}

// The dwords group..group+count of the batch's panels at the rows of output positions from `m`.
void MultiplyRows(const Int8Layer& layer, const Int8Batch& batch, uint32_t first_group, uint32_t count, int64_t m, uint32_t rows,
                  Int8Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const Int8Kernels& kernels = *ActiveIsa().i8;
  const int32_t per_group = g.channels_per_group();
  const uint32_t k = first_group * kernels.group;
  const uint32_t num_k = std::min(count * kernels.group, batch.num_k - k);
  const bool last = batch.last && k + num_k == batch.num_k, dynamic = layer.dynamic != nullptr;
  Quantization quantization[kMaxInt8Rows];
  if (dynamic) FillQuantization(layer, Position(g, m), rows, quantization);
  // Sums of a batch that is only a piece of k wait for the next batch, those of a chunk only for the next chunk.
  const bool pieces = !(batch.first && batch.last);
  int32_t* partial = scratch->partial + (pieces ? (m - batch.begin_position) * MaxGroupsPerPanel(g) * kLanes : 0);
  Int8GemmTile tile = {};
  tile.a = scratch->rows;
  tile.groups = count;
  tile.rows = rows;
  tile.accumulate = k != 0 || !batch.first;
  tile.quantization = quantization;
  tile.c_stride = static_cast<size_t>(g.out_channels);
  int32_t packed_group = -1;
  for (uint32_t i = 0; i < batch.num_panels; ++i) {
    const int32_t first = static_cast<int32_t>(batch.panels[i] * kLanes);
    const int32_t end = std::min(first + static_cast<int32_t>(kLanes), g.out_channels);
    tile.b = scratch->panels + (i * static_cast<size_t>(batch.slot_groups) + first_group) * kInt8GroupBytes;
    if (dynamic) {
      tile.y = layer.dynamic->y + m * g.out_channels + first;
      tile.float_epilogue = last ? &scratch->float_epilogues[i] : nullptr;
    } else {
      tile.c = layer.fixed->y + m * g.out_channels + first;
      tile.start = k == 0 ? scratch->epilogues[i].bias : nullptr;
      tile.epilogue = last ? &scratch->epilogues[i] : nullptr;
    }
    for (int32_t group = first / per_group; group * per_group < end; ++group) {
      if (group != packed_group) PackInt8Rows(layer, {group, m, rows, batch.first_k + k, num_k}, quantization, scratch);
      packed_group = group;
      tile.first_column = static_cast<uint32_t>(std::max(group * per_group - first, 0));
      tile.end_column = static_cast<uint32_t>(std::min((group + 1) * per_group, end) - first);
      tile.partial = partial;
      kernels.gemm(tile);
      partial += rows * kLanes;
    }
  }
}

void MultiplyGemm(const Int8Layer& layer, const Int8Batch& batch, Int8Scratch* scratch) {
  const Int8Kernels& kernels = *ActiveIsa().i8;
  const uint32_t groups = (batch.num_k + kernels.group - 1) / kernels.group;
  const uint32_t chunks = (groups + kChunkGroups - 1) / kChunkGroups;
  const uint32_t chunk = (groups + chunks - 1) / chunks;
  for (int64_t m = batch.begin_position; m < batch.end_position; m += kernels.gemm_rows) {
    const uint32_t rows = static_cast<uint32_t>(std::min<int64_t>(kernels.gemm_rows, batch.end_position - m));
    for (uint32_t first = 0; first < groups; first += chunk) {
      MultiplyRows(layer, batch, first, std::min(chunk, groups - first), m, rows, scratch);
    }
  }
}

Int8Method GemmMethod(const ConvGeometry& geometry) {
  const Int8Kernels& kernels = *ActiveIsa().i8;
  return {kernels.group, kernels.offset, kernels.pack_panel, MultiplyGemm, kInt8BatchGroups, kernels.gemm_rows,
          kInt8PartialRows / static_cast<uint32_t>(MaxGroupsPerPanel(geometry))};
}

// The panel, or piece of one, that is packed as number `index` of the batch.
struct Slot {
  uint32_t panel;
  uint32_t index;
  PanelReader* reader;
  uint8_t* to;
  alignas(64) int32_t sums[kLanes];  // of the ids
};

// Value kind `midrise`: id + 1/2 is half of an odd integer.
void ToOddIntegers(int8_t* ids, size_t count) {
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int8_t>(2 * ids[i] + 1);
}

// Decodes and packs the next num_k of the slots' panels, which belong to different tiles.
Status PackSlots(const Int8Layer& layer, const Int8Method& method, uint32_t num_k, Slot* slots, uint32_t num_slots, Int8Scratch* scratch) {
  PanelReader* readers[kMaxSideBySide];
  int8_t* ids[kMaxSideBySide];
  for (uint32_t i = 0; i < num_slots; ++i) {
    std::memset(slots[i].sums, 0, sizeof(slots[i].sums));
    readers[i] = slots[i].reader;
    ids[i] = scratch->ids[i];
  }
  for (uint32_t k = 0; k < num_k;) {
    const uint32_t count = std::min(kInt8Piece, num_k - k);
    TFS_RETURN_IF_ERROR(PanelReader::ReadIdsSideBySide(readers, num_slots, count, ids));
    const uint32_t groups = (count + method.group - 1) / method.group;
    for (uint32_t i = 0; i < num_slots; ++i) {
      if (layer.weight->value_kind == ValueKind::kMidrise) ToOddIntegers(ids[i], count * static_cast<size_t>(kLanes));
      std::memset(ids[i] + count * kLanes, 0, (groups * method.group - count) * kLanes);
      method.pack(ids[i], groups, slots[i].to + k / method.group * static_cast<size_t>(kInt8GroupBytes), slots[i].sums);
    }
    k += count;
  }
  return Status();
}

// How the sums of a slot begin and end. A piece of k brings its own share of the zero point: `first` and not the first one.
void SetFixedEpilogue(const Int8Layer& layer, const Int8Method& method, const Slot& slot, bool first, Int8Epilogue* e) {
  const FixedInt8& fixed = *layer.fixed;
  const uint8_t* const order = ActiveIsa().i8->order;
  const uint32_t width = layer.weight->panel_width(slot.panel), offset = static_cast<uint32_t>(fixed.x_zero_point + method.offset);
  const int32_t* const bias = fixed.bias == nullptr ? nullptr : fixed.bias + slot.panel * kLanes;
  if (first) SetEpilogue(fixed.requantization, slot.panel * kLanes, width, order, LargestSum(bias, width, layer.weight->channel_elements), e);
  for (uint32_t s = 0; s < kLanes; ++s) {
    const uint32_t start = first && bias != nullptr && order[s] < width ? static_cast<uint32_t>(bias[order[s]]) : 0;
    e->bias[s] = static_cast<int32_t>(start - offset * static_cast<uint32_t>(slot.sums[s]));
  }
}

void SetFloatEpilogue(const Int8Layer& layer, const Slot& slot, bool first, FloatEpilogue* e) {
  const Epilogue panel = PanelEpilogue(*layer.dynamic, slot.panel * kLanes);
  const uint8_t* const order = ActiveIsa().i8->order;
  const uint32_t width = layer.weight->panel_width(slot.panel);
  const float unit = layer.weight->value_kind == ValueKind::kMidrise ? 0.5f : 1.0f;
  e->min = panel.min;
  e->max = panel.max;
  for (uint32_t s = 0; s < kLanes; ++s) {
    const bool used = order[s] < width;
    e->scale[s] = used ? panel.scale[order[s]] * unit : 0.0f;
    e->bias[s] = used ? panel.bias[order[s]] : 0.0f;
    e->ids[s] = static_cast<int32_t>((first ? 0 : static_cast<uint32_t>(e->ids[s])) + static_cast<uint32_t>(slot.sums[s]));
  }
}

void SetEnd(const Int8Layer& layer, const Int8Method& method, const Slot& slot, bool first, Int8Scratch* scratch) {
  if (layer.dynamic != nullptr) return SetFloatEpilogue(layer, slot, first, &scratch->float_epilogues[slot.index]);
  SetFixedEpilogue(layer, method, slot, first, &scratch->epilogues[slot.index]);
}

struct Task {
  uint32_t first_tile, end_tile;
  int64_t begin_position, end_position;
};

uint32_t FirstPanel(const PackedWeight& weight, uint32_t tile) { return std::min(weight.num_panels, weight.first_panel(tile)); }

// The panels of a task, from several runs of its tiles in turn: that many tiles decode faster together.
class TaskPanels {
 public:
  Status Start(const PackedWeight& weight, const Task& task, Int8Scratch* scratch) {
    const uint32_t tiles = task.end_tile - task.first_tile;
    for (uint32_t i = 0; i < kMaxSideBySide; ++i) {
      next_[i] = FirstPanel(weight, task.first_tile + (tiles * i + kMaxSideBySide - 1) / kMaxSideBySide);
      end_[i] = FirstPanel(weight, task.first_tile + (tiles * (i + 1) + kMaxSideBySide - 1) / kMaxSideBySide);
      left_ += end_[i] - next_[i];
      if (next_[i] < end_[i]) TFS_RETURN_IF_ERROR(readers_[i].Start(weight, next_[i], scratch->ids[0]));
    }
    return Status();
  }

  bool done() const { return left_ == 0; }

  // At most `most` and at most kMaxSideBySide. Returns how many.
  uint32_t Take(uint32_t most, Slot* slots) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < kMaxSideBySide && count < most; ++i) {
      if (next_[i] == end_[i]) continue;
      slots[count].panel = next_[i]++;
      slots[count++].reader = &readers_[i];
    }
    left_ -= count;
    return count;
  }

 private:
  PanelReader readers_[kMaxSideBySide];
  uint32_t next_[kMaxSideBySide], end_[kMaxSideBySide];
  uint32_t left_ = 0;
};

// Panels that are multiplied together: what fits the scratch, and if k is cut in chunks, as many as there is room for sums that wait.
uint32_t MaxPanels(const Int8Method& method, uint32_t groups) {
  const uint32_t most = std::min(kInt8BatchGroups / groups, kInt8BatchPanels);
  return groups <= kChunkGroups ? most : std::min(most, std::max(1u, method.partial_positions / method.position_step));
}

// As many panels at a time as fit the scratch.
Status RunWholePanels(const Int8Layer& layer, const Int8Method& method, const Task& task, uint32_t groups, Int8Scratch* scratch) {
  const uint32_t k = layer.weight->channel_elements, most = MaxPanels(method, groups);
  TaskPanels panels;
  TFS_RETURN_IF_ERROR(panels.Start(*layer.weight, task, scratch));
  while (!panels.done()) {
    Int8Batch batch = {{}, 0, groups, 0, k, true, true, task.begin_position, task.end_position};
    while (batch.num_panels < most && !panels.done()) {
      Slot slots[kMaxSideBySide];
      const uint32_t count = panels.Take(most - batch.num_panels, slots);
      for (uint32_t i = 0; i < count; ++i) {
        slots[i].index = batch.num_panels;
        slots[i].to = scratch->panels + batch.num_panels * static_cast<size_t>(groups) * kInt8GroupBytes;
        batch.panels[batch.num_panels++] = slots[i].panel;
      }
      TFS_RETURN_IF_ERROR(PackSlots(layer, method, k, slots, count, scratch));
      for (uint32_t i = 0; i < count; ++i) SetEnd(layer, method, slots[i], true, scratch);
    }
    method.multiply(layer, batch, scratch);
  }
  return Status();
}

// A panel that does not fit: piece by piece, the sums of some positions waiting. For more positions it is decoded again.
Status RunPieces(const Int8Layer& layer, const Int8Method& method, const Task& task, Int8Scratch* scratch) {
  const uint32_t k = layer.weight->channel_elements;
  const uint32_t piece = method.max_groups * method.group / kLanes * kLanes;
  const uint32_t end_panel = FirstPanel(*layer.weight, task.end_tile);
  for (uint32_t panel = layer.weight->first_panel(task.first_tile); panel < end_panel; ++panel) {
    for (int64_t begin = task.begin_position; begin < task.end_position; begin += method.partial_positions) {
      const int64_t end = std::min<int64_t>(begin + method.partial_positions, task.end_position);
      PanelReader reader;
      TFS_RETURN_IF_ERROR(reader.Start(*layer.weight, panel, scratch->ids[0]));
      Slot slot = {panel, 0, &reader, scratch->panels, {}};
      for (uint32_t first_k = 0; first_k < k; first_k += piece) {
        const uint32_t num_k = std::min(piece, k - first_k);
        TFS_RETURN_IF_ERROR(PackSlots(layer, method, num_k, &slot, 1, scratch));
        SetEnd(layer, method, slot, first_k == 0, scratch);
        method.multiply(layer, {{panel}, 1, method.max_groups, first_k, num_k, first_k == 0, first_k + num_k == k, begin, end}, scratch);
      }
    }
  }
  return Status();
}

}  // namespace

Status RunInt8Layer(Runtime* runtime, const Int8Layer& layer) {
  const PackedWeight& weight = *layer.weight;
  const bool lanes = MaxGroupsPerPanel(layer.geometry) > kInt8MaxGemmGroups;
  const Int8Method method = lanes ? Int8LanesMethod(layer.geometry) : GemmMethod(layer.geometry);
  const Schedule s = MakeSchedule(weight, layer.geometry.positions(), runtime->threads.num_threads(), kMaxPiece, method.position_step);
  const uint32_t groups = (weight.channel_elements + method.group - 1) / method.group;
  return runtime->threads.ParallelFor(s.num_tasks, [&](size_t number) {
    ScratchPool::Lease lease(&runtime->scratch);
    if (lease.get() == nullptr) return NoScratch();
    Int8Scratch* const scratch = Int8Scratch::Of(lease.get());
    if (layer.fixed != nullptr) std::memset(scratch->outside, layer.fixed->x_zero_point, sizeof(scratch->outside));
    const uint32_t first_tile = static_cast<uint32_t>(number % s.tile_tasks) * s.tiles_per_task;
    const uint32_t end_tile = std::min(weight.num_tiles, first_tile + s.tiles_per_task);
    const Task task = {first_tile, end_tile, s.BeginPosition(number), s.EndPosition(number)};
    if (groups > method.max_groups) return RunPieces(layer, method, task, scratch);
    return RunWholePanels(layer, method, task, groups, scratch);
  });
}

Status RunFixedInt8Conv2D(Runtime* runtime, const PackedWeight& weight, const ConvGeometry& geometry, const FixedInt8& layer) {
  return RunInt8Layer(runtime, {&weight, geometry, &layer, nullptr, nullptr});
}

}  // namespace tflite_smart
