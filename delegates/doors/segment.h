// Neighbouring nodes of the graph as one node of the runtime's: what the delegate makes of every partition that it gets.
//
// READ FIRST
// * A step is one op, or a convolution and what it does on the way (neighbours.h). It stands where the last of its nodes stood.
// * Tensors that only the segment sees lie in a workspace, a temporary tensor of the node: so the runtime's arena holds it, too, and shares
//   its memory with what lives at other times. They have memory while the segment runs, and only then.
// * Steps with large images between them run together, some lines at a time (bands.h): a chain. Any other step is a chain of its own.
// * The runtime forgets about inner tensors, so a step that can write where it reads does (Op::InPlaceInput).
#ifndef TFLITE_SMART_DOORS_SEGMENT_H_
#define TFLITE_SMART_DOORS_SEGMENT_H_

#include <memory>
#include <vector>

#include "doors/bands.h"
#include "doors/graph_node.h"
#include "doors/kernel.h"
#include "doors/memory_plan.h"
#include "doors/neighbours.h"

namespace tflite_smart {

class Segment {
 public:
  explicit Segment(const BandLimits& limits = {}) : limits_(limits) {}

  // The nodes of a partition in the order of the graph. Errors are reported, here and below.
  tfl::Status Init(tfl::Context* context, const tfl::DelegateParams& params, Runtime* runtime);
  tfl::Status Prepare(tfl::Context* context, tfl::Node* node);
  tfl::Status Invoke(tfl::Context* context);

 private:
  // A tensor that nobody else sees, and its block.
  struct Inner {
    int tensor;
    size_t block;
  };

  // Steps first..end; of one there are no bands.
  struct Chain {
    size_t first, end;
    std::unique_ptr<Bands> bands;
  };

  tfl::Status AddStep(tfl::Context* context, const GraphNode& node, Runtime* runtime);
  Chain ChainFrom(tfl::Context* context, size_t first) const;
  bool IsBetween(const tfl::Context& context, size_t step) const;
  size_t Plan(tfl::Context* context);
  size_t BlockOf(size_t step, int time, size_t bytes, std::vector<Block>* blocks) const;
  tfl::Status RunBands(tfl::Context* context, const Chain& chain) const;
  tfl::Status ResizeWorkspace(tfl::Context* context, tfl::Node* node, size_t bytes);
  bool IsVisible(int tensor) const;
  int LastChainWith(int tensor) const;

  const BandLimits limits_;
  std::vector<Kernel> steps_;
  std::vector<Chain> chains_;
  std::vector<int> visible_;  // outputs of the partition
  std::vector<Inner> inner_;
  std::vector<Block> blocks_;
  int workspace_ = -1;  // its tensor, once there was need for it
  const char* advised_ = nullptr;  // where it lay when the system was last told what it is for
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_SEGMENT_H_
