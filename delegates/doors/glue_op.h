// What all operators of glue_ops.cc have in common. One is a class with Supports(), which sees a node before anything is claimed, and the shapes
// and the work of GlueOp.
#ifndef TFLITE_SMART_DOORS_GLUE_OP_H_
#define TFLITE_SMART_DOORS_GLUE_OP_H_

#include <climits>

#include "doors/builtin_params.h"
#include "doors/op.h"

namespace tflite_smart {

inline bool IsConstant(const tfl::Tensor& tensor, tfl::Type type) {
  return tensor.allocation_type == tfl::kMmapRo && tensor.type == type && tensor.dims != nullptr && tensor.data.raw != nullptr;
}

inline Status WrongShape(const char* what) { return MakeError(Code::kInvalidArgument, "inputs must have shapes that fit the operator. Received: %s.", what); }

// Inputs of float32, checked before Compute(); others are constants.
class GlueOp : public Op {
 public:
  Status Prepare(tfl::Context* context) final {
    Shape y;
    TFS_RETURN_IF_ERROR(Infer(context, &y));
    return Resize(context, Output(context), y);
  }

  Status Run(tfl::Context* context) final {
    Shape x, y;
    TFS_RETURN_IF_ERROR(Infer(context, &y));
    if (Output(context)->allocation_type == tfl::kDynamic) TFS_RETURN_IF_ERROR(Resize(context, Output(context), y));
    TFS_RETURN_IF_ERROR(CheckMemory(Output(context), y, "output"));
    for (size_t i = 0; i < inputs().size(); ++i) {
      if (Input(context, i) != nullptr && Input(context, i)->type != tfl::kFloat32) continue;
      TFS_RETURN_IF_ERROR(X(context, i, &x));
      TFS_RETURN_IF_ERROR(CheckMemory(Input(context, i), x, "input"));
    }
    return y.elements() == 0 ? Status() : Compute(context, y);
  }

 protected:
  Status Open(tfl::Context*, const tfl::Node&) override { return Status(); }
  int MinInputs() const override { return 1; }
  int MaxInputs() const override { return INT_MAX; }

  virtual Status Infer(tfl::Context* context, Shape* y) = 0;
  virtual Status Compute(tfl::Context* context, const Shape& y) = 0;

  Status X(tfl::Context* context, size_t i, Shape* shape) const { return ReadShape(Input(context, i), tfl::kFloat32, "input", shape); }
  const float* In(tfl::Context* context, size_t i = 0) const { return Input(context, i)->data.f; }
  float* Out(tfl::Context* context) const { return Output(context)->data.f; }
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_GLUE_OP_H_
