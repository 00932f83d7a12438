// An op as the doors that speak TFLite's C ABI hold it: with what messages about it need.
#ifndef TFLITE_SMART_DOORS_KERNEL_H_
#define TFLITE_SMART_DOORS_KERNEL_H_

#include <memory>

#include "doors/op.h"

namespace tflite_smart {

struct Kernel {
  std::unique_ptr<Op> op;
  const char* op_name = "";
  const char* weight_name = "";
};

// Tells the runtime's error reporter unless all is well.
inline tfl::Status Report(tfl::Context* context, const Kernel& kernel, const Status& status) {
  if (status.ok()) return tfl::kOk;
  context->ReportError(context, "%s '%s': %s", kernel.op_name, kernel.weight_name, status.message);
  return tfl::kError;
}

// The name that a user knows: that of the weight's tensor, which the converter keeps.
inline const char* WeightName(const tfl::Context& context, const tfl::Node& node) {
  for (int i = 0; node.inputs != nullptr && i < node.inputs->size; ++i) {
    const int index = node.inputs->data[i];
    if (index < 0 || static_cast<size_t>(index) >= context.tensors_size) continue;
    const tfl::Tensor& tensor = context.tensors[index];
    if (tensor.type == tfl::kUInt8 && tensor.allocation_type == tfl::kMmapRo && tensor.name != nullptr) return tensor.name;
  }
  return "?";
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_KERNEL_H_
