#include "kernels/int8_conv2d.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/int8_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_reader.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

constexpr uint32_t kChunkGroups = kInt8RowBytes / sizeof(int32_t);

// Packs the elements k..k+count of one position's filter window, which is what a row of A is, run by run.
class RowPacker {
 public:
  RowPacker(const ConvGeometry& geometry, const int8_t* outside)
      : g_(geometry), kernels_(*ActiveIsa().i8), outside_(outside), line_(static_cast<uint32_t>(g_.filter_width) * g_.filter_in) {}

  void Pack(const int8_t* group_image, int32_t y0, int32_t x0, uint32_t k, uint32_t count, uint8_t* out) const {
    // A line of the window is contiguous in the image if the pixels are neighbours and the group is all of them.
    const bool whole_lines = g_.dilation_width == 1 && g_.filter_in == g_.in_channels && x0 >= 0 && x0 + g_.filter_width <= g_.in_width;
    const uint32_t element_bytes = sizeof(int32_t) / kernels_.group;
    uint32_t line = k / line_, in_line = k % line_;
    while (count > 0) {
      const int32_t y = y0 + static_cast<int32_t>(line) * g_.dilation_height;
      uint32_t run = line_ - in_line;
      const int8_t* from = outside_;
      if (y >= 0 && y < g_.in_height) {
        const int8_t* image_line = group_image + static_cast<int64_t>(y) * g_.in_width * g_.in_channels;
        if (whole_lines) {
          from = image_line + static_cast<int64_t>(x0) * g_.in_channels + in_line;
        } else {
          const uint32_t i = in_line % g_.filter_in;
          const int32_t x = x0 + static_cast<int32_t>(in_line / g_.filter_in) * g_.dilation_width;
          run = g_.filter_in - i;
          if (x >= 0 && x < g_.in_width) from = image_line + static_cast<int64_t>(x) * g_.in_channels + i;
        }
      }
      run = std::min(run, count);
      kernels_.pack_rows(from, 0, 1, run, out);
      out += run * element_bytes;
      count -= run;
      in_line += run;
      if (in_line == line_) {
        in_line = 0;
        ++line;
      }
    }
  }

 private:
  const ConvGeometry& g_;
  const Int8Kernels& kernels_;
  const int8_t* const outside_;
  const uint32_t line_;
};

void PackRows(const Int8Layer& layer, int32_t group, Position position, uint32_t rows, uint32_t k, uint32_t count, Int8Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const bool whole_line = position.x + static_cast<int64_t>(rows) <= g.out_width;
  if (g.filter_height == 1 && g.filter_width == 1 && g.stride_width == 1 && whole_line) {  // nothing is ever outside, and rows are neighbours
    const int64_t pixel = static_cast<int64_t>(position.InputY(g)) * g.in_width + position.x;
    const int8_t* from = ImageOf(layer, position) + pixel * g.in_channels + static_cast<int64_t>(group) * g.filter_in + k;
    ActiveIsa().i8->pack_rows(from, static_cast<size_t>(g.in_channels), rows, count, scratch->rows);
    return;
  }
  const RowPacker packer(g, scratch->outside);
  for (uint32_t r = 0; r < rows; ++r) {
    const int8_t* image = ImageOf(layer, position) + static_cast<int64_t>(group) * g.filter_in;
    packer.Pack(image, position.InputY(g), position.InputX(g), k, count, scratch->rows + r * kInt8RowStride);
    position.Advance(g);
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
  const Position position(g, m);
  const bool last = batch.last && k + num_k == batch.num_k;
  // Sums of a batch that is only a piece of k wait for the next batch, those of a chunk only for the next chunk.
  const bool pieces = !(batch.first && batch.last);
  int32_t* partial = scratch->partial + (pieces ? (m - batch.begin_position) * MaxGroupsPerPanel(g) * kLanes : 0);
  Int8GemmTile tile;
  tile.a = scratch->rows;
  tile.groups = count;
  tile.rows = rows;
  tile.accumulate = k != 0 || !batch.first;
  tile.c_stride = static_cast<size_t>(g.out_channels);
  int32_t packed_group = -1;
  for (uint32_t i = 0; i < batch.num_panels; ++i) {
    const int32_t first = static_cast<int32_t>(batch.panels[i] * kLanes);
    const int32_t end = std::min(first + static_cast<int32_t>(kLanes), g.out_channels);
    tile.b = scratch->panels + (i * static_cast<size_t>(batch.slot_groups) + first_group) * kInt8GroupBytes;
    tile.c = layer.y + m * g.out_channels + first;
    tile.start = k == 0 ? scratch->epilogues[i].bias : nullptr;
    tile.epilogue = last ? &scratch->epilogues[i] : nullptr;
    for (int32_t group = first / per_group; group * per_group < end; ++group) {
      if (group != packed_group) PackRows(layer, group, position, rows, batch.first_k + k, num_k, scratch);
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
  return {kernels.group, kernels.offset, kernels.pack_panel, MultiplyGemm, kernels.gemm_rows,
          kInt8PartialRows / static_cast<uint32_t>(MaxGroupsPerPanel(geometry))};
}

void SetPanelEpilogue(const Int8Layer& layer, uint32_t panel, Int8Epilogue* epilogue) {
  const uint32_t width = layer.weight->panel_width(panel);
  int64_t largest = 0;
  for (uint32_t j = 0; layer.bias != nullptr && j < width; ++j) {
    largest = std::max(largest, std::abs(static_cast<int64_t>(layer.bias[panel * kLanes + j])));
  }
  largest += static_cast<int64_t>(layer.weight->channel_elements) * 128 * 255;
  SetEpilogue(layer.requantization, panel * kLanes, width, ActiveIsa().i8->order, largest, epilogue);
}

// The panel, or piece of one, that is packed into a slot of the batch.
struct Slot {
  uint32_t panel;
  PanelReader* reader;
  uint8_t* to;
  Int8Epilogue* epilogue;
  alignas(64) int32_t sums[kLanes];  // of the ids
};

// Decodes and packs the next num_k of one slot's panel, or of two at once.
Status PackSlots(const Int8Method& method, uint32_t num_k, Slot* slots, int num_slots, Int8Scratch* scratch) {
  int8_t* const ids[2] = {scratch->ids[0], scratch->ids[1]};
  for (int i = 0; i < num_slots; ++i) std::memset(slots[i].sums, 0, sizeof(slots[i].sums));
  for (uint32_t k = 0; k < num_k;) {
    const uint32_t count = std::min(kMaxChunk, num_k - k);
    if (num_slots == 2) {
      PanelReader* const readers[2] = {slots[0].reader, slots[1].reader};
      TFS_RETURN_IF_ERROR(PanelReader::ReadIdsSideBySide(readers, 2, count, ids));
    } else {
      TFS_RETURN_IF_ERROR(slots[0].reader->ReadIds(count, ids[0]));
    }
    const uint32_t groups = (count + method.group - 1) / method.group;
    for (int i = 0; i < num_slots; ++i) {
      std::memset(ids[i] + count * kLanes, 0, (groups * method.group - count) * kLanes);
      method.pack(ids[i], groups, slots[i].to + k / method.group * static_cast<size_t>(kInt8GroupBytes), slots[i].sums);
    }
    k += count;
  }
  return Status();
}

// The bias that goes with a slot: a piece of k brings its own share of the zero point.
void SetBias(const Int8Layer& layer, const Int8Method& method, const Slot& slot, bool with_bias) {
  const uint32_t width = layer.weight->panel_width(slot.panel);
  const uint8_t* order = ActiveIsa().i8->order;
  const uint32_t offset = static_cast<uint32_t>(layer.x_zero_point + method.offset);
  for (uint32_t s = 0; s < kLanes; ++s) {
    const bool biased = with_bias && layer.bias != nullptr && order[s] < width;
    const uint32_t bias = biased ? static_cast<uint32_t>(layer.bias[slot.panel * kLanes + order[s]]) : 0;
    slot.epilogue->bias[s] = static_cast<int32_t>(bias - offset * static_cast<uint32_t>(slot.sums[s]));
  }
}

struct Task {
  uint32_t first_tile, end_tile;
  int64_t begin_position, end_position;
};

uint32_t FirstPanel(const PackedWeight& weight, uint32_t tile) { return std::min(weight.num_panels, weight.first_panel(tile)); }

// The panels of a task, from the first and the second half of its tiles in turn: two tiles decode faster together.
class TaskPanels {
 public:
  Status Start(const PackedWeight& weight, const Task& task, Int8Scratch* scratch) {
    const uint32_t middle = task.first_tile + (task.end_tile - task.first_tile + 1) / 2;
    next_[0] = FirstPanel(weight, task.first_tile);
    next_[1] = end_[0] = FirstPanel(weight, middle);
    end_[1] = FirstPanel(weight, task.end_tile);
    for (int h = 0; h < 2; ++h) {
      if (next_[h] < end_[h]) TFS_RETURN_IF_ERROR(readers_[h].Start(weight, next_[h], scratch->ids[h]));
    }
    return Status();
  }

  bool done() const { return next_[0] == end_[0] && next_[1] == end_[1]; }

  // At most `most` and at most two. Returns how many.
  int Take(uint32_t most, Slot* slots) {
    int count = 0;
    for (int h = 0; h < 2; ++h) {
      if (next_[h] == end_[h] || static_cast<uint32_t>(count) == most) continue;
      slots[count].panel = next_[h]++;
      slots[count++].reader = &readers_[h];
    }
    return count;
  }

 private:
  PanelReader readers_[2];
  uint32_t next_[2], end_[2];
};

// As many panels at a time as fit the scratch.
Status RunWholePanels(const Int8Layer& layer, const Int8Method& method, const Task& task, uint32_t groups, Int8Scratch* scratch) {
  const uint32_t k = layer.weight->channel_elements;
  const uint32_t most = std::min(kInt8BatchGroups / groups, kInt8BatchPanels);
  TaskPanels panels;
  TFS_RETURN_IF_ERROR(panels.Start(*layer.weight, task, scratch));
  while (!panels.done()) {
    Int8Batch batch = {{}, 0, groups, 0, k, true, true, task.begin_position, task.end_position};
    while (batch.num_panels < most && !panels.done()) {
      Slot slots[2];
      const int count = panels.Take(most - batch.num_panels, slots);
      for (int i = 0; i < count; ++i) {
        slots[i].to = scratch->panels + batch.num_panels * static_cast<size_t>(groups) * kInt8GroupBytes;
        slots[i].epilogue = &scratch->epilogues[batch.num_panels];
        batch.panels[batch.num_panels++] = slots[i].panel;
      }
      TFS_RETURN_IF_ERROR(PackSlots(method, k, slots, count, scratch));
      for (int i = 0; i < count; ++i) {
        SetPanelEpilogue(layer, slots[i].panel, slots[i].epilogue);
        SetBias(layer, method, slots[i], true);
      }
    }
    method.multiply(layer, batch, scratch);
  }
  return Status();
}

// A panel that does not fit: piece by piece, the sums of some positions waiting. For more positions it is decoded again.
Status RunPieces(const Int8Layer& layer, const Int8Method& method, const Task& task, Int8Scratch* scratch) {
  const uint32_t k = layer.weight->channel_elements;
  const uint32_t piece = kInt8BatchGroups * method.group / kLanes * kLanes;
  const uint32_t end_panel = FirstPanel(*layer.weight, task.end_tile);
  for (uint32_t panel = layer.weight->first_panel(task.first_tile); panel < end_panel; ++panel) {
    SetPanelEpilogue(layer, panel, &scratch->epilogues[0]);
    for (int64_t begin = task.begin_position; begin < task.end_position; begin += method.partial_positions) {
      const int64_t end = std::min<int64_t>(begin + method.partial_positions, task.end_position);
      PanelReader reader;
      TFS_RETURN_IF_ERROR(reader.Start(*layer.weight, panel, scratch->ids[0]));
      Slot slot = {panel, &reader, scratch->panels, &scratch->epilogues[0], {}};
      for (uint32_t first_k = 0; first_k < k; first_k += piece) {
        const uint32_t num_k = std::min(piece, k - first_k);
        TFS_RETURN_IF_ERROR(PackSlots(method, num_k, &slot, 1, scratch));
        SetBias(layer, method, slot, first_k == 0);
        method.multiply(layer, {{panel}, 1, kInt8BatchGroups, first_k, num_k, first_k == 0, first_k + num_k == k, begin, end}, scratch);
      }
    }
  }
  return Status();
}

}  // namespace

Status RunInt8Conv2D(Runtime* runtime, const Int8Layer& layer) {
  const PackedWeight& weight = *layer.weight;
  const bool lanes = MaxGroupsPerPanel(layer.geometry) > kInt8MaxGemmGroups;
  const Int8Method method = lanes ? Int8LanesMethod(layer.geometry) : GemmMethod(layer.geometry);
  const Schedule s = MakeSchedule(weight, layer.geometry.positions(), runtime->threads.num_threads(), kMaxPiece, method.position_step);
  const uint32_t groups = (weight.channel_elements + method.group - 1) / method.group;
  return runtime->threads.ParallelFor(s.num_tasks, [&](size_t number) {
    ScratchPool::Lease lease(&runtime->scratch);
    if (lease.get() == nullptr) return NoScratch();
    Int8Scratch* const scratch = Int8Scratch::Of(lease.get());
    std::memset(scratch->outside, layer.x_zero_point, sizeof(scratch->outside));
    const uint32_t first_tile = static_cast<uint32_t>(number % s.tile_tasks) * s.tiles_per_task;
    const uint32_t end_tile = std::min(weight.num_tiles, first_tile + s.tiles_per_task);
    const Task task = {first_tile, end_tile, s.BeginPosition(number), s.EndPosition(number)};
    if (groups > kInt8BatchGroups) return RunPieces(layer, method, task, scratch);
    return RunWholePanels(layer, method, task, groups, scratch);
  });
}

}  // namespace tflite_smart
