// Builtin ops beside one of ours that it does on the way: PAD before a convolution, whose zeros then exist nowhere; behind one ADD, HARD_SWISH or
// swish (LOGISTIC and MUL), whose result then takes the place of the convolution's. That spares passes over memory, the memory itself, and
// changes between our threads and XNNPACK's.
//
// READ FIRST
// * Zeros are skipped as those of padding SAME are, and a sum is rounded once more, as ADD does: the same bits. Of a curve every kernel of
//   LiteRT's has its own last bits, and so have we.
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
  int after = -1;  // the last one behind ...
  int logistic = -1;  // ... and if that is the MUL of a swish, its other half
};

// A claim as an IntArray.
class NodeList {
 public:
  explicit NodeList(const Claim& claim) {
    for (const int node : {claim.pad, claim.node, claim.logistic, claim.after}) {
      if (node >= 0) list_.data[list_.size++] = node;
    }
  }
  const tfl::IntArray* get() const { return reinterpret_cast<const tfl::IntArray*>(&list_); }

 private:
  struct {
    int size = 0, data[4] = {};
  } list_;
};

// Adds the neighbours that each claim can take over. kError if the runtime refuses an answer.
tfl::Status FindNeighbours(tfl::Context* context, std::vector<Claim>* claims);

// Tells `op`, after its Init(), about the nodes of its partition that are not its own.
Status AbsorbNeighbours(tfl::Context* context, const tfl::IntArray& nodes, Op* op);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_NEIGHBOURS_H_
