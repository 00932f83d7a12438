// Builtin operators that the delegate does itself where they lie between its own: what stays with the runtime is done by other threads,
// which must wait for ours and ours for them.
#ifndef TFLITE_SMART_DOORS_GLUE_OPS_H_
#define TFLITE_SMART_DOORS_GLUE_OPS_H_

#include <memory>

#include "doors/graph_node.h"

namespace tflite_smart {

// Whether a builtin node is one that MakeGlueOp() makes an op of, whatever shapes its inputs may get.
bool IsGlue(const tfl::Context& context, const GraphNode& node);

// Null if it is none, and its name, as in the schema.
std::unique_ptr<Op> MakeGlueOp(const GraphNode& node);
const char* GlueName(const GraphNode& node);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_GLUE_OPS_H_
