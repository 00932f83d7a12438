// A node of the runtime's graph, and what is asked about it before it becomes an Op.
#ifndef TFLITE_SMART_DOORS_GRAPH_NODE_H_
#define TFLITE_SMART_DOORS_GRAPH_NODE_H_

#include <cstring>

#include "doors/op.h"
#include "doors/tflite_abi.h"

namespace tflite_smart {

struct GraphNode {
  tfl::Node* node = nullptr;
  tfl::Registration* registration = nullptr;

  bool Read(tfl::Context* context, int index) { return context->GetNodeAndRegistration(context, index, &node, &registration) == tfl::kOk; }

  // Whether it is one of the TFLiteSmart ops.
  bool IsOurs() const {
    return registration->builtin_code == tfl::kBuiltinCustom && registration->custom_name != nullptr &&
           std::strncmp(registration->custom_name, kOpPrefix, sizeof(kOpPrefix) - 1) == 0;
  }
  bool IsOurs(const char* name) const { return IsOurs() && std::strcmp(registration->custom_name + sizeof(kOpPrefix) - 1, name) == 0; }

  bool Is(int builtin_code, int inputs) const {
    return registration->builtin_code == builtin_code && node->inputs != nullptr && node->inputs->size == inputs && node->outputs != nullptr &&
           node->outputs->size == 1;
  }
  int input(int i) const { return node->inputs->data[i]; }
  int output() const { return node->outputs->data[0]; }
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_GRAPH_NODE_H_
