// Decodes the panels of an integer layer and packs them for the kernels: B and what goes with it.
#ifndef TFLITE_SMART_KERNELS_INT8_PANELS_H_
#define TFLITE_SMART_KERNELS_INT8_PANELS_H_

#include "kernels/int8_parts.h"

namespace tflite_smart {

struct Int8Task {
  uint32_t first_tile, end_tile;
  int64_t begin_position, end_position;
};

// A panel on its way to place `index` of the batch.
struct Int8Slot {
  uint32_t panel;
  uint32_t index;
  PanelReader* reader;
  uint8_t* to;
  alignas(64) int32_t sums[kLanes];  // of the ids of this piece
};

// The panels of a task, from several runs of its tiles in turn: that many tiles decode faster together.
class Int8TaskPanels {
 public:
  Status Start(const PackedWeight& weight, const Int8Task& task, Int8Scratch* scratch);
  bool done() const { return left_ == 0; }

  // At most `most` and at most kMaxSideBySide, of different tiles. Returns how many.
  uint32_t Take(uint32_t most, Int8Slot* slots);

 private:
  PanelReader readers_[kMaxSideBySide];
  uint32_t next_[kMaxSideBySide], end_[kMaxSideBySide];
  uint32_t left_ = 0;
};

// A piece of k and the dwords that hold it. Two pieces may share a dword, in which each has only its own elements.
struct Int8KRange {
  uint32_t first_k, num_k, first_group, num_groups;

  Int8KRange(const Int8Method& method, uint32_t first, uint32_t count);
};

// Decodes the next `count` k of the slots' panels, at most kInt8Piece, into scratch->ids: numbers to multiply, with zeros to the end of the last dword.
Status ReadInt8Slots(const Int8Layer& layer, const Int8Method& method, uint32_t count, Int8Slot* slots, uint32_t num_slots, Int8Scratch* scratch);

// Decodes and packs the next piece of the slots' panels.
Status PackInt8Slots(const Int8Layer& layer, const Int8Method& method, const Int8KRange& range, Int8Slot* slots, uint32_t num_slots, Int8Scratch* scratch);

// How the sums of a slot begin and end: fills in the epilogue of its index. first: this is the first piece of k.
void SetInt8Epilogue(const Int8Layer& layer, const Int8Method& method, const Int8Slot& slot, bool first, Int8Scratch* scratch);

// The same for a panel of layer.kept, whole.
void SetKeptEpilogue(const Int8Layer& layer, const Int8Method& method, uint32_t panel, uint32_t index, Int8Scratch* scratch);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_PANELS_H_
