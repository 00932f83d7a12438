#include "kernels/int8_kept.h"

#include <cstring>
#include <new>

namespace tflite_smart {

static_assert(sizeof(int32_t) * kLanes == kInt8GroupBytes, "the sums take the place of one dword of k");

Status KeptPanels::Keep(Runtime* runtime, const Int8Layer& layer, const Int8Method& method) {
  const Int8Runs& runs = method.runs;
  const bool here = panels_ != nullptr && pack_ == method.pack && runs_.count == runs.count && runs_.elements == runs.elements;
  if (here) return Status();
  panels_ = nullptr;
  memory_ = nullptr;  // first, so that there are never two
  runs_ = runs;
  pack_ = method.pack;
  constexpr size_t kAlignment = 64;
  const size_t bytes = static_cast<size_t>(layer.weight->num_panels) * slot_groups() * kInt8GroupBytes;
  memory_.reset(new (std::nothrow) uint8_t[bytes + kAlignment]);
  if (memory_ == nullptr) {
    return MakeError(Code::kOutOfMemory, "cache: %zu bytes must be free. Received: none. Set the delegate's option cache_bytes to 0.", bytes);
  }
  panels_ = memory_.get() + (kAlignment - reinterpret_cast<uintptr_t>(memory_.get()) % kAlignment) % kAlignment;
  const Status status = PackAll(runtime, layer, method);
  if (!status.ok()) panels_ = nullptr;
  return status;
}

Status KeptPanels::PackAll(Runtime* runtime, const Int8Layer& layer, const Int8Method& method) {
  ScratchPool::Lease lease(&runtime->scratch);
  if (lease.get() == nullptr) return NoScratch();
  Int8Scratch* const scratch = Int8Scratch::Of(lease.get());
  Int8TaskPanels panels;
  TFS_RETURN_IF_ERROR(panels.Start(*layer.weight, {0, layer.weight->num_tiles, 0, 0}, scratch));
  while (!panels.done()) {
    Int8Slot slots[kMaxSideBySide];
    const uint32_t count = panels.Take(kMaxSideBySide, slots);
    for (uint32_t i = 0; i < count; ++i) slots[i].to = panel(slots[i].panel);
    TFS_RETURN_IF_ERROR(PackInt8Slots(layer, method, {method, 0, layer.weight->channel_elements}, slots, count, scratch));
    const uint32_t times = layer.fixed == nullptr ? 1 : 0u - static_cast<uint32_t>(layer.fixed->x_zero_point + method.offset);
    for (uint32_t i = 0; i < count; ++i) {
      for (uint32_t j = 0; j < kLanes; ++j) sums(slots[i].panel)[j] = static_cast<int32_t>(times * static_cast<uint32_t>(slots[i].sums[j]));
    }
  }
  return Status();
}

}  // namespace tflite_smart
