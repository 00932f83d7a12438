// Builtin ops beside one of ours that it does on the way: PAD before a convolution, whose zeros then exist nowhere, and ADD behind one, whose
// sum then needs no third tensor. That spares a pass over memory, the memory itself, and a change between our threads and XNNPACK's.
//
// READ FIRST
// * Only what leaves every bit as it was: zeros are skipped as those of padding SAME are, and the sum is rounded once more, as ADD does.
// * The tensor in between disappears. So nobody else may read it, and it must be no output of the model; that nobody tells a delegate, but
//   the partition that the runtime would make lists it as an output of its own.
#ifndef TFLITE_SMART_DOORS_NEIGHBOURS_H_
#define TFLITE_SMART_DOORS_NEIGHBOURS_H_

#include <vector>

#include "doors/op.h"

namespace tflite_smart {

// What becomes one node: `node` is ours; -1: none.
struct Claim {
  int node;
  int pad = -1;
  int add = -1;
};

// The IntArray of up to three nodes, without those that are -1.
class NodeList {
 public:
  NodeList(int a, int b, int c) {
    for (const int node : {a, b, c}) {
      if (node >= 0) list_.data[list_.size++] = node;
    }
  }
  const tfl::IntArray* get() const { return reinterpret_cast<const tfl::IntArray*>(&list_); }

 private:
  struct {
    int size = 0, data[3] = {};
  } list_;
};

// Adds the neighbours that each claim can take over. kError if the runtime refuses an answer.
tfl::Status FindNeighbours(tfl::Context* context, std::vector<Claim>* claims);

// Tells `op`, after its Init(), about the nodes of its partition that are not its own.
Status AbsorbNeighbours(tfl::Context* context, const tfl::IntArray& nodes, Op* op);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_NEIGHBOURS_H_
