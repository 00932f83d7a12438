// The panels of an integer layer as its kernels read them, with their sums: packed once and kept, where a float layer would keep its ids (core/kept_ids.h).
#ifndef TFLITE_SMART_KERNELS_INT8_KEPT_H_
#define TFLITE_SMART_KERNELS_INT8_KEPT_H_

#include <memory>

#include "kernels/int8_panels.h"

namespace tflite_smart {

class KeptPanels {
 public:
  // Packs all panels of `layer`. Nothing to do if they are here, unless another instruction set or another geometry wants them packed otherwise.
  Status Keep(Runtime* runtime, const Int8Layer& layer, const Int8Method& method);

  uint8_t* panel(uint32_t index) const { return panels_ + index * static_cast<size_t>(slot_groups()) * kInt8GroupBytes; }
  uint32_t slot_groups() const { return runs_.all_groups() + 1; }  // the sums of a panel take one more

  // Of the ids, by channel; of a fixed layer what they add to the sums: -(zero point + offset) times as much.
  int32_t* sums(uint32_t index) const { return reinterpret_cast<int32_t*>(panel(index) + runs_.all_groups() * static_cast<size_t>(kInt8GroupBytes)); }

 private:
  Status PackAll(Runtime* runtime, const Int8Layer& layer, const Int8Method& method);

  std::unique_ptr<uint8_t[]> memory_;
  uint8_t* panels_ = nullptr;  // in memory_, aligned
  PackPanel pack_ = nullptr;   // what has packed them, and which k
  Int8Runs runs_ = {};
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_KEPT_H_
