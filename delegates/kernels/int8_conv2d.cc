#include "kernels/int8_conv2d.h"

#include <algorithm>
#include <cstring>

#include "kernels/int8_input.h"
#include "kernels/int8_kept.h"
#include "kernels/int8_panels.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// Below this many multiplications waking a thread costs more than it brings.
constexpr uint64_t kMinThreadedWork = 800000;

// A tile is decoded once per cut of the positions, which takes as long as multiplying it with 36 of them. With fewer of them the tiles are dealt out, and the
// input is quantized once per part.
constexpr int64_t kMinPositions = 192, kFewestPositions = 24;

// Where the results of output positions from `m` go for a panel, whose epilogue is number `index`.
void SetOutput(const Int8Layer& layer, uint32_t panel, uint32_t index, int64_t m, Int8Scratch* scratch, Int8GemmTile* tile) {
  const int64_t first = m * layer.geometry.out_channels + static_cast<int64_t>(panel) * kLanes;
  tile->c_stride = static_cast<size_t>(layer.geometry.out_channels);
  if (layer.dynamic != nullptr) {
    tile->y = layer.dynamic->y + first;
    tile->float_epilogue = &scratch->float_epilogues[index];
  } else {
    tile->c = layer.fixed->y + first;
    tile->start = scratch->epilogues[index].bias;
    tile->epilogue = &scratch->epilogues[index];
  }
}

// All panels of the batch with the rows of output positions from `m`, tile->rows of them. per_group: channels.
void MultiplyRows(const Int8Layer& layer, const Int8Batch& batch, int64_t m, int32_t per_group, Int8Input* input, Int8Scratch* scratch, Int8GemmTile* to) {
  const ConvGeometry& g = layer.geometry;
  Int8GemmTile& tile = *to;
  const bool in_parts = !batch.first || !batch.last;
  tile.partial = scratch->partial + (in_parts ? (m - batch.begin_position) * batch.num_panels * MaxGroupsPerPanel(g) * kLanes : 0);
  int32_t set_group = -1;
  for (uint32_t i = 0; i < batch.num_panels; ++i) {
    const int32_t first = static_cast<int32_t>(batch.panels[i] * kLanes);
    const int32_t end = std::min(first + static_cast<int32_t>(kLanes), g.out_channels);
    tile.b = batch.at(i);
    SetOutput(layer, batch.panels[i], i, m, scratch, &tile);
    if (!batch.last) {
      tile.epilogue = nullptr;
      tile.float_epilogue = nullptr;
    }
    for (int32_t group = first < per_group ? 0 : first / per_group; group * per_group < end; ++group) {
      if (group != set_group) input->SetRows(m, group, batch.first_group, batch.num_groups, &tile);
      set_group = group;
      tile.first_column = static_cast<uint32_t>(std::max(group * per_group - first, 0));
      tile.end_column = static_cast<uint32_t>(std::min((group + 1) * per_group, end) - first);
      ActiveIsa().i8->gemm(tile);
      if (in_parts) tile.partial += tile.rows * kLanes;
    }
  }
}

void MultiplyGemm(const Int8Layer& layer, const Int8Batch& batch, Int8Input* input, Int8Scratch* scratch) {
  const int64_t step = ActiveIsa().i8->gemm_rows;
  const int32_t per_group = layer.geometry.channels_per_group();  // a division takes as long as many multiplications
  Int8GemmTile tile = {};
  tile.accumulate = !batch.first;
  for (int64_t m = batch.begin_position; m < batch.end_position;) {
    const int64_t end = input->Fill(m, batch.end_position);
    for (; m < end; m += step) {
      tile.rows = static_cast<uint32_t>(std::min(step, end - m));
      MultiplyRows(layer, batch, m, per_group, input, scratch, &tile);
    }
    m = end;
  }
}

Int8Method GemmMethod(const Int8Layer& layer) {
  const Int8Kernels& kernels = *ActiveIsa().i8;
  const uint32_t sums = static_cast<uint32_t>(MaxGroupsPerPanel(layer.geometry)) * kMaxSideBySide;
  constexpr uint32_t kRowGroups = kInt8StripBytes / kMaxInt8Rows / sizeof(int32_t) - kInt8StripSlack;  // of one tile of rows, which have gaps between them
  return {kernels.group, kernels.offset, Int8RunsOf(layer.geometry), kernels.pack_panel, MultiplyGemm, kInt8BatchGroups, kRowGroups, kernels.gemm_rows,
          kInt8PartialRows / sums};
}

// As many panels at a time as fit the scratch.
Status RunWholePanels(const Int8Layer& layer, const Int8Method& method, const Int8Task& task, Int8Scratch* scratch) {
  const uint32_t groups = method.runs.all_groups();
  const uint32_t side_by_side = std::min(kInt8MostGroups / groups, kMaxSideBySide);
  const uint32_t most = std::min(std::max(kInt8BatchGroups / groups, side_by_side), kInt8BatchPanels);
  Int8Input input(layer, false, scratch);
  Int8TaskPanels panels;
  TFS_RETURN_IF_ERROR(panels.Start(*layer.weight, task, scratch));
  while (!panels.done()) {
    Int8Batch batch = {{}, 0, groups, 0, groups, true, true, task.begin_position, task.end_position, scratch->panels};
    while (batch.num_panels < most && !panels.done()) {
      Int8Slot slots[kMaxSideBySide];
      const uint32_t count = panels.Take(most - batch.num_panels, slots);
      for (uint32_t i = 0; i < count; ++i) {
        slots[i].index = batch.num_panels;
        slots[i].to = scratch->panels + batch.num_panels * static_cast<size_t>(groups) * kInt8GroupBytes;
        batch.panels[batch.num_panels++] = slots[i].panel;
      }
      TFS_RETURN_IF_ERROR(PackInt8Slots(layer, method, {method, 0, layer.weight->channel_elements}, slots, count, scratch));
      for (uint32_t i = 0; i < count; ++i) SetInt8Epilogue(layer, method, slots[i], true, scratch);
    }
    method.multiply(layer, batch, &input, scratch);
  }
  return Status();
}

// A few panels in step, `piece` of k at a time, while the sums of some positions wait. For more positions everything is decoded again.
Status RunPieces(const Int8Layer& layer, const Int8Method& method, uint32_t piece, const Int8Task& task, Int8Scratch* scratch) {
  const uint32_t k = layer.weight->channel_elements, most = kInt8BatchGroups / kMaxSideBySide / kMaxSideBySide * kMaxSideBySide;
  Int8Input input(layer, true, scratch);
  for (int64_t begin = task.begin_position; begin < task.end_position; begin += method.partial_positions) {
    const int64_t end = std::min<int64_t>(begin + method.partial_positions, task.end_position);
    Int8TaskPanels panels;
    TFS_RETURN_IF_ERROR(panels.Start(*layer.weight, task, scratch));
    while (!panels.done()) {
      Int8Slot slots[kMaxSideBySide];
      Int8Batch batch = {{}, panels.Take(kMaxSideBySide, slots), most, 0, 0, true, true, begin, end, scratch->panels};
      for (uint32_t i = 0; i < batch.num_panels; ++i) {
        batch.panels[i] = slots[i].panel;
        slots[i].index = i;
        slots[i].to = scratch->panels + i * static_cast<size_t>(batch.slot_groups) * kInt8GroupBytes;
      }
      for (uint32_t first = 0; first < k; first += piece) {
        const Int8KRange range(method, first, std::min(piece, k - first));
        TFS_RETURN_IF_ERROR(PackInt8Slots(layer, method, range, slots, batch.num_panels, scratch));
        batch.first = first == 0;
        batch.last = first + range.num_k == k;
        batch.first_group = range.first_group;
        batch.num_groups = range.num_groups;
        for (uint32_t i = 0; i < batch.num_panels; ++i) SetInt8Epilogue(layer, method, slots[i], batch.first, scratch);
        method.multiply(layer, batch, &input, scratch);
      }
    }
  }
  return Status();
}

// One row, which meets every weight but once: ids are multiplied as they are decoded, without being packed.
Status RunOneRow(const Int8Layer& layer, const Int8Method& method, const Int8Task& task, Int8Scratch* scratch) {
  const uint32_t k = layer.weight->channel_elements;
  // Where several tiles at once are no faster, memory is read in order.
  const uint32_t most = layer.weight->codec == Codec::kRans ? kMaxSideBySide : 1;
  const bool fused = PanelReader::CanMultiplyPlanes(*layer.weight);  // then `most` is 1
  Int8Input input(layer, true, scratch);
  input.Fill(task.begin_position, task.end_position);
  Int8GemmTile tile = {};
  tile.rows = 1;
  input.SetRows(task.begin_position, 0, 0, method.runs.all_groups(), &tile);
  tile.num_runs = 0;  // of what is left to do at the end, which is only the epilogue
  tile.b = scratch->panels;  // nothing of it is read then, but an address is one only within something
  tile.accumulate = true;
  Int8TaskPanels panels;
  TFS_RETURN_IF_ERROR(panels.Start(*layer.weight, task, scratch));
  while (!panels.done()) {
    Int8Slot slots[kMaxSideBySide];
    const uint32_t count = panels.Take(most, slots);
    std::memset(scratch->partial, 0, count * kLanes * sizeof(int32_t));
    for (uint32_t i = 0; i < count; ++i) std::memset(slots[i].sums, 0, sizeof(slots[i].sums));
    const bool planes = fused && layer.weight->panel_width(slots[0].panel) == kLanes;
    if (planes) TFS_RETURN_IF_ERROR(slots[0].reader->MultiplyPlanes(tile.a[0], scratch->partial, slots[0].sums));
    for (uint32_t first = 0; first < k && !planes; first += kInt8Piece) {
      const uint32_t piece = std::min(kInt8Piece, k - first), groups = (piece + method.group - 1) / method.group;
      const uint8_t* const a = tile.a[0] + first / method.group * sizeof(int32_t);
      TFS_RETURN_IF_ERROR(ReadInt8Slots(layer, method, piece, slots, count, scratch));
      for (uint32_t i = 0; i < count; ++i) ActiveIsa().i8->multiply_ids({a, scratch->ids[i], groups, scratch->partial + i * kLanes, slots[i].sums});
    }
    for (uint32_t i = 0; i < count; ++i) {
      slots[i].index = i;
      SetInt8Epilogue(layer, method, slots[i], true, scratch);
      SetOutput(layer, slots[i].panel, i, task.begin_position, scratch, &tile);
      tile.partial = scratch->partial + i * kLanes;
      tile.end_column = layer.weight->panel_width(slots[i].panel);
      ActiveIsa().i8->gemm(tile);
    }
  }
  return Status();
}

// Whether RunOneRow() can: all channels read the same k, whose dwords are in the order of the ids.
bool IsOneRow(const Int8Layer& layer, const Int8Method& method, const Int8Task& task) {
  return task.end_position - task.begin_position == 1 && layer.geometry.groups() == 1 && method.multiply == MultiplyGemm && !HasGaps(method) &&
         method.runs.all_groups() * uint64_t{sizeof(int32_t)} < kInt8StripBytes;
}

// k in a quarter of the scratch, a multiple of 32. A piece may begin and end within a dword.
uint32_t LongestPiece(const Int8Method& method) {
  return (method.max_groups / kMaxSideBySide - 2) * method.runs.elements / method.runs.groups / kLanes * kLanes;
}

// Whether RunKeptRow() can take whole panels of it: a dense layer for one row.
bool IsKeptRow(const Int8Layer& layer) {
  const ConvGeometry& g = layer.geometry;
  const bool one_pixel = g.in_height == 1 && g.in_width == 1 && g.filter_height == 1 && g.filter_width == 1 && g.pad_top == 0 && g.pad_left == 0;
  return g.positions() == 1 && one_pixel && g.filter_in == g.in_channels && layer.weight->value_kind != ValueKind::kMidrise;
}

// One row and panels that are kept packed. Little more than the multiplications, as small layers take no longer than what is done around them.
void RunKeptRow(const Int8Layer& layer, uint32_t first_panel, uint32_t end_panel, uint8_t* a) {
  const Int8Kernels& kernels = *ActiveIsa().i8;
  const KeptPanels& kept = *layer.kept;
  const uint32_t k = layer.weight->channel_elements, first = first_panel * kLanes;
  const Int8KeptRow row = {a, kept.slot_groups() - 1, kept.panel(first_panel), end_panel - first_panel};
  if (layer.dynamic != nullptr) {
    const Epilogue& e = layer.floats;
    const uint32_t bias_step = layer.dynamic->bias == nullptr ? 0 : kLanes;
    kernels.quantize(layer.dynamic->x, k, layer.images[0], a);
    return kernels.float_row({row, e.scale + first, e.bias + first_panel * bias_step, bias_step, e.min, e.max, layer.images, layer.dynamic->y + first});
  }
  static constexpr int32_t kNoBias[kLanes] = {};
  const FixedInt8& fixed = *layer.fixed;
  Int8Epilogue e;
  fixed.requantization->SetEpilogue(first_panel, &e);
  kernels.pack(fixed.x, k, a);
  const bool has_bias = fixed.bias != nullptr;
  kernels.fixed_row({row, has_bias ? fixed.bias + first : kNoBias, has_bias ? kLanes : 0, e.factors, e.zero_point, e.min, e.max, fixed.y + first});
}

// Panels that are kept packed, each of which is a tile here.
Status RunKept(const Int8Layer& layer, const Int8Method& method, const Int8Task& task, Int8Scratch* scratch) {
  const KeptPanels& kept = *layer.kept;
  const uint32_t end_whole = std::min(task.end_tile, layer.weight->num_channels / kLanes), first_left = IsKeptRow(layer) ? end_whole : task.first_tile;
  if (first_left > task.first_tile) RunKeptRow(layer, task.first_tile, end_whole, scratch->strip);
  if (first_left == task.end_tile) return Status();
  Int8Input input(layer, false, scratch);
  for (uint32_t first = first_left, count; first < task.end_tile; first += count) {
    count = std::min(task.end_tile - first, kInt8BatchPanels);
    Int8Batch batch = {{}, count, kept.slot_groups(), 0, method.runs.all_groups(), true, true, task.begin_position, task.end_position, nullptr};
    batch.packed = kept.panel(first);
    for (uint32_t i = 0; i < count; ++i) {
      batch.panels[i] = first + i;
      SetKeptEpilogue(layer, method, first + i, i, scratch);
    }
    method.multiply(layer, batch, &input, scratch);
  }
  return Status();
}

Status RunTask(const Int8Layer& layer, const Int8Method& method, const Int8Task& task, Int8Scratch* scratch) {
  if (layer.kept != nullptr) return RunKept(layer, method, task, scratch);
  if (IsOneRow(layer, method, task)) return RunOneRow(layer, method, task, scratch);
  // One tile of rows meets every weight once: then the first-level cache is all the room that is needed.
  const bool few = task.end_position - task.begin_position <= method.position_step && method.multiply == MultiplyGemm;
  if (few) return RunPieces(layer, method, std::min(kInt8Piece, LongestPiece(method)), task, scratch);
  if (method.runs.all_groups() > method.max_groups) return RunPieces(layer, method, LongestPiece(method), task, scratch);
  return RunWholePanels(layer, method, task, scratch);
}

Int8Method MethodOf(const Int8Layer& layer) {
  return MaxGroupsPerPanel(layer.geometry) > kInt8MaxGemmGroups ? Int8LanesMethod(layer) : GemmMethod(layer);
}

bool KeepsPanels(const PackedWeight& weight, const Int8Method& method) {
  const uint32_t groups = method.runs.all_groups();
  const uint64_t bytes = weight.num_panels * (groups + uint64_t{1}) * kInt8GroupBytes;
  return groups <= method.max_row_groups && bytes <= 2 * weight.num_elements() + kKeptSlackBytes;
}

}  // namespace

bool KeepsPanels(const PackedWeight& weight, const ConvGeometry& geometry) {
  return KeepsPanels(weight, MethodOf({&weight, geometry, nullptr, nullptr, nullptr, nullptr, {}}));
}

Status RunInt8Layer(Runtime* runtime, Int8Layer layer) {
  const PackedWeight& weight = *layer.weight;
  const int64_t positions = layer.geometry.positions();
  const Int8Method method = MethodOf(layer);
  if (!KeepsPanels(weight, method)) layer.kept = nullptr;
  if (layer.kept != nullptr) TFS_RETURN_IF_ERROR(layer.kept->Keep(runtime, layer, method));
  const uint32_t num_tiles = layer.kept != nullptr ? weight.num_panels : weight.num_tiles;
  const bool alone = weight.num_elements() * static_cast<uint64_t>(positions) < kMinThreadedWork;
  if (alone) {
    ScratchPool::Lease lease(&runtime->scratch);
    return lease.get() == nullptr ? NoScratch() : RunTask(layer, method, {0, num_tiles, 0, positions}, Int8Scratch::Of(lease.get()));
  }
  const int64_t threads = runtime->threads.num_threads();
  // Kept panels are not decoded, and too few tiles can't be dealt out.
  const int64_t min_positions = layer.kept != nullptr || num_tiles < threads ? kFewestPositions : kMinPositions;
  const bool cut_positions = positions >= threads * min_positions;
  const Cuts rows = Cuts::Make(positions, method.position_step, cut_positions ? threads : 1);
  const Cuts tiles = Cuts::Make(num_tiles, 1, rows.parts < threads ? threads : 1);
  return runtime->threads.ParallelFor(static_cast<size_t>(rows.parts * tiles.parts), [&](size_t number) {
    ScratchPool::Lease lease(&runtime->scratch);
    if (lease.get() == nullptr) return NoScratch();
    const int64_t row = static_cast<int64_t>(number) / tiles.parts, tile = static_cast<int64_t>(number) % tiles.parts;
    const Int8Task task = {static_cast<uint32_t>(tiles.Begin(tile)), static_cast<uint32_t>(tiles.Begin(tile + 1)), rows.Begin(row), rows.Begin(row + 1)};
    return RunTask(layer, method, task, Int8Scratch::Of(lease.get()));
  });
}

Status RunFixedInt8Conv2D(Runtime* runtime, const PackedWeight& weight, const ConvGeometry& geometry, const FixedInt8& layer, KeptPanels* kept) {
  return RunInt8Layer(runtime, {&weight, geometry, &layer, nullptr, nullptr, kept, {}});
}

}  // namespace tflite_smart
