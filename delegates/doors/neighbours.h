// Builtin ops beside one of ours that it does on the way: PAD before a convolution, whose zeros then exist nowhere; behind one ADD, HARD_SWISH or
// swish (LOGISTIC and MUL), whose result then takes the place of the convolution's. That spares passes over memory, the memory itself, and
// changes between our threads and XNNPACK's.
//
// READ FIRST
// * Zeros are skipped as those of padding SAME are, and a sum is rounded once more, as ADD does: the same bits. Of a curve every kernel of
//   LiteRT's has its own last bits, and so have we.
// * The tensor in between disappears. So nobody else may read it, and it must not be visible outside of the segment.
#ifndef TFLITE_SMART_DOORS_NEIGHBOURS_H_
#define TFLITE_SMART_DOORS_NEIGHBOURS_H_

#include <vector>

#include "doors/graph_node.h"
#include "doors/op.h"

namespace tflite_smart {

// Nodes that become one step, by their place in the segment: `node` is the convolution; -1: none.
struct Claim {
  int node;
  int pad = -1;
  int after = -1;  // the last one behind ...
  int logistic = -1;  // ... and if that is the MUL of a swish, its other half
};

// A claim for each convolution among the nodes of a segment, whose tensors `visible` others read.
std::vector<Claim> FindNeighbours(tfl::Context* context, const std::vector<GraphNode>& nodes, const tfl::IntArray& visible);

// Tells the convolution, after its Init(), about the rest of its claim.
void AbsorbNeighbours(tfl::Context* context, const std::vector<GraphNode>& nodes, const Claim& claim, Op* op);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_NEIGHBOURS_H_
