#include "kernels/int8_panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/int8_kept.h"
#include "kernels/isa.h"

namespace tflite_smart {
namespace {

// Value kind `midrise`: id + 1/2 is half of an odd integer.
void ToOddIntegers(int8_t* ids, size_t count) {
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int8_t>(2 * ids[i] + 1);
}

// ids[count][32] from k on into the dwords of `range`, which are 0 or have the elements before k. Only for filters of few channels.
void PackWithGaps(const Int8Method& method, const Int8KRange& range, uint32_t k, uint32_t count, const int8_t* ids, Int8Slot* slot) {
  for (uint32_t end = k + count, taken; k < end; k += taken, ids += taken * kLanes) {
    const uint32_t in_run = k % method.runs.elements, before = in_run % method.group;
    taken = std::min({method.group - before, method.runs.elements - in_run, end - k});
    alignas(64) int8_t whole[kMaxInt8Group * kLanes] = {};
    std::memcpy(whole + before * kLanes, ids, taken * static_cast<size_t>(kLanes));
    alignas(64) uint8_t dwords[kInt8GroupBytes];
    method.pack(whole, 1, dwords, slot->sums);  // where the elements of a dword lie is the instruction set's own affair
    uint8_t* const to = slot->to + (Int8KRange(method, k, 1).first_group - range.first_group) * static_cast<size_t>(kInt8GroupBytes);
    for (uint32_t i = 0; i < kInt8GroupBytes; ++i) to[i] |= dwords[i];
  }
}

// sums: of the ids of a piece of k, which brings its own share of the zero point: `times` as much.
void SetFixedEpilogue(const Int8Layer& layer, uint32_t panel, const int32_t* sums, uint32_t times, bool first, Int8Epilogue* e) {
  const FixedInt8& fixed = *layer.fixed;
  const uint32_t width = layer.weight->panel_width(panel);
  const int32_t* const bias = fixed.bias == nullptr ? nullptr : fixed.bias + panel * kLanes;
  if (first) fixed.requantization->SetEpilogue(panel, e);
  for (uint32_t j = 0; j < kLanes; ++j) {
    const uint32_t start = first && bias != nullptr && j < width ? static_cast<uint32_t>(bias[j]) : 0;
    e->bias[j] = static_cast<int32_t>(start + times * static_cast<uint32_t>(sums[j]));
  }
}

// All but the ids.
void SetFloatEpilogue(const Int8Layer& layer, uint32_t panel, FloatEpilogue* e) {
  const uint32_t first = panel * kLanes, width = layer.weight->panel_width(panel);
  const bool midrise = layer.weight->value_kind == ValueKind::kMidrise;
  e->min = layer.floats.min;
  e->max = layer.floats.max;
  e->scale = layer.floats.scale + first;
  e->bias = layer.floats.bias + (layer.dynamic->bias == nullptr ? 0 : first);
  if (width == kLanes && !midrise) return;
  std::memset(e->room, 0, sizeof(e->room));
  std::memcpy(e->room[0], e->scale, width * sizeof(float));
  std::memcpy(e->room[1], e->bias, width * sizeof(float));
  for (uint32_t j = 0; j < kLanes; ++j) e->room[0][j] *= midrise ? 0.5f : 1.0f;
  e->scale = e->room[0];
  e->bias = e->room[1];
}

}  // namespace

Status Int8TaskPanels::Start(const PackedWeight& weight, const Int8Task& task, Int8Scratch* scratch) {
  const auto first_panel = [&](uint32_t tile) { return std::min(weight.num_panels, weight.first_panel(tile)); };
  const uint32_t tiles = task.end_tile - task.first_tile;
  for (uint32_t i = 0; i < kMaxSideBySide; ++i) {
    next_[i] = first_panel(task.first_tile + (tiles * i + kMaxSideBySide - 1) / kMaxSideBySide);
    end_[i] = first_panel(task.first_tile + (tiles * (i + 1) + kMaxSideBySide - 1) / kMaxSideBySide);
    left_ += end_[i] - next_[i];
    if (next_[i] < end_[i]) TFS_RETURN_IF_ERROR(readers_[i].Start(weight, next_[i], scratch->ids[0]));
  }
  return Status();
}

uint32_t Int8TaskPanels::Take(uint32_t most, Int8Slot* slots) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < kMaxSideBySide && count < most; ++i) {
    if (next_[i] == end_[i]) continue;
    slots[count].panel = next_[i]++;
    slots[count++].reader = &readers_[i];
  }
  left_ -= count;
  return count;
}

Int8KRange::Int8KRange(const Int8Method& method, uint32_t first, uint32_t count) : first_k(first), num_k(count) {
  const auto group_of = [&](uint32_t k) { return k / method.runs.elements * method.runs.groups + k % method.runs.elements / method.group; };
  first_group = group_of(first);
  num_groups = group_of(first + count - 1) + 1 - first_group;
}

Status ReadInt8Slots(const Int8Layer& layer, const Int8Method& method, uint32_t count, Int8Slot* slots, uint32_t num_slots, Int8Scratch* scratch) {
  PanelReader* readers[kMaxSideBySide] = {};
  int8_t* ids[kMaxSideBySide] = {};
  for (uint32_t i = 0; i < num_slots; ++i) {
    readers[i] = slots[i].reader;
    ids[i] = scratch->ids[i];
  }
  TFS_RETURN_IF_ERROR(PanelReader::ReadIdsSideBySide(readers, num_slots, count, ids));
  const uint32_t groups = (count + method.group - 1) / method.group;
  for (uint32_t i = 0; i < num_slots; ++i) {
    if (layer.weight->value_kind == ValueKind::kMidrise) ToOddIntegers(ids[i], count * static_cast<size_t>(kLanes));
    std::memset(ids[i] + count * kLanes, 0, (groups * method.group - count) * kLanes);
  }
  return Status();
}

Status PackInt8Slots(const Int8Layer& layer, const Int8Method& method, const Int8KRange& range, Int8Slot* slots, uint32_t num_slots, Int8Scratch* scratch) {
  const bool gaps = HasGaps(method);
  for (uint32_t i = 0; i < num_slots; ++i) {
    std::memset(slots[i].sums, 0, sizeof(slots[i].sums));
    if (gaps) std::memset(slots[i].to, 0, range.num_groups * static_cast<size_t>(kInt8GroupBytes));
  }
  for (uint32_t k = 0; k < range.num_k;) {
    const uint32_t count = std::min(kInt8Piece, range.num_k - k);
    TFS_RETURN_IF_ERROR(ReadInt8Slots(layer, method, count, slots, num_slots, scratch));
    for (uint32_t i = 0; i < num_slots; ++i) {
      if (gaps) {
        PackWithGaps(method, range, range.first_k + k, count, scratch->ids[i], &slots[i]);
      } else {
        method.pack(scratch->ids[i], (count + method.group - 1) / method.group, slots[i].to + k / method.group * static_cast<size_t>(kInt8GroupBytes), slots[i].sums);
      }
    }
    k += count;
  }
  return Status();
}

void SetInt8Epilogue(const Int8Layer& layer, const Int8Method& method, const Int8Slot& slot, bool first, Int8Scratch* scratch) {
  if (layer.dynamic == nullptr) {
    const uint32_t offset = static_cast<uint32_t>(layer.fixed->x_zero_point + method.offset);
    return SetFixedEpilogue(layer, slot.panel, slot.sums, 0u - offset, first, &scratch->epilogues[slot.index]);
  }
  int32_t(&ids)[kLanes] = scratch->id_sums[slot.index];
  if (first) std::memset(ids, 0, sizeof(ids));
  for (uint32_t j = 0; j < kLanes; ++j) ids[j] = static_cast<int32_t>(static_cast<uint32_t>(ids[j]) + static_cast<uint32_t>(slot.sums[j]));
  SetFloatEpilogue(layer, slot.panel, &scratch->float_epilogues[slot.index]);
  scratch->float_epilogues[slot.index].ids = ids;
}

void SetKeptEpilogue(const Int8Layer& layer, const Int8Method& method, uint32_t panel, uint32_t index, Int8Scratch* scratch) {
  const int32_t* const sums = layer.kept->sums(panel);
  if (layer.dynamic == nullptr) return SetFixedEpilogue(layer, panel, sums, 1, true, &scratch->epilogues[index]);
  SetFloatEpilogue(layer, panel, &scratch->float_epilogues[index]);
  scratch->float_epilogues[index].ids = sums;
}

}  // namespace tflite_smart
