// Builtin operators that only move elements.
#ifndef TFLITE_SMART_DOORS_GLUE_MOVES_H_
#define TFLITE_SMART_DOORS_GLUE_MOVES_H_

#include <climits>
#include <cstring>

#include "doors/glue_op.h"

namespace tflite_smart {

class ReshapeOp : public GlueOp {
 public:
  ReshapeOp() { is_view_ = true; }
  static bool Supports(const tfl::Context& context, const tfl::Node& node) {
    return node.inputs->size == 2 && IsConstant(context.tensors[node.inputs->data[1]], tfl::kInt32) &&
           context.tensors[node.inputs->data[1]].bytes <= kMaxRank * sizeof(int32_t);
  }
  int InPlaceInput() const override { return 0; }

 protected:
  Status Infer(tfl::Context* context, Shape* y) override {
    Shape x;
    TFS_RETURN_IF_ERROR(X(context, 0, &x));
    const tfl::Tensor& shape = *Input(context, 1);
    y->rank = static_cast<int>(shape.bytes / sizeof(int32_t));
    int open = -1;
    int64_t elements = 1;
    for (int i = 0; i < y->rank; ++i) {
      y->dims[i] = shape.data.i32[i];
      if (y->dims[i] < 0) open = i;
      elements *= i == open ? 1 : y->dims[i];
      if (elements > INT_MAX) return WrongShape("too many elements");
    }
    if (open >= 0 && elements > 0) y->dims[open] = static_cast<int32_t>(x.elements() / elements);
    for (int i = 0; i < y->rank; ++i) {
      if (y->dims[i] < 0) return WrongShape("two open dimensions");
    }
    return y->elements() == x.elements() ? Status() : WrongShape("another number of elements");
  }

  Status Compute(tfl::Context* context, const Shape& y) override {
    if (In(context) == Out(context)) return Status();
    return CopyRows(runtime_, 1, {In(context), Out(context), 0, 0, y.elements()});
  }
};

class ConcatenationOp : public GlueOp {
 public:
  static bool Supports(const tfl::Context& context, const tfl::Node& node) {
    const int rank = context.tensors[node.outputs->data[0]].dims == nullptr ? 0 : context.tensors[node.outputs->data[0]].dims->size;
    const auto& p = Params<tfl::ConcatenationParams>(node);
    return p.activation == tfl::kFusedNone && p.axis < rank && p.axis >= -rank;
  }

 protected:
  Status Open(tfl::Context*, const tfl::Node& node) override {
    axis_ = Params<tfl::ConcatenationParams>(node).axis;
    return Status();
  }

  Status Infer(tfl::Context* context, Shape* y) override {
    TFS_RETURN_IF_ERROR(X(context, 0, y));
    const int axis = axis_ < 0 ? axis_ + y->rank : axis_;
    if (axis < 0 || axis >= y->rank) return WrongShape("another rank");
    int64_t total = y->dims[axis];
    for (size_t i = 1; i < inputs().size(); ++i) {
      Shape x;
      TFS_RETURN_IF_ERROR(X(context, i, &x));
      if (x.rank != y->rank) return WrongShape("different ranks");
      total += x.dims[axis];
      x.dims[axis] = y->dims[axis];
      if (!(x == *y)) return WrongShape("different sizes");
    }
    if (total > INT_MAX) return WrongShape("too many elements");
    y->dims[axis] = static_cast<int32_t>(total);
    return Status();
  }

  Status Compute(tfl::Context* context, const Shape& y) override {
    const int axis = axis_ < 0 ? axis_ + y.rank : axis_;
    int64_t rows = 1, inner = 1;
    for (int i = 0; i < axis; ++i) rows *= y.dims[i];
    for (int i = axis + 1; i < y.rank; ++i) inner *= y.dims[i];
    float* out = Out(context);
    for (size_t i = 0; i < inputs().size(); ++i) {
      Shape x;
      TFS_RETURN_IF_ERROR(X(context, i, &x));
      const int64_t count = x.dims[axis] * inner;
      TFS_RETURN_IF_ERROR(CopyRows(runtime_, rows, {In(context, i), out, count, y.dims[axis] * inner, count}));
      out += count;
    }
    return Status();
  }

 private:
  int axis_ = 0;
};

class TransposeOp : public GlueOp {
 public:
  static bool Supports(const tfl::Context& context, const tfl::Node& node) {
    return node.inputs->size == 2 && IsConstant(context.tensors[node.inputs->data[1]], tfl::kInt32) &&
           context.tensors[node.inputs->data[1]].bytes <= kMaxRank * sizeof(int32_t);
  }

 protected:
  Status Infer(tfl::Context* context, Shape* y) override {
    Shape x;
    TFS_RETURN_IF_ERROR(X(context, 0, &x));
    *y = x;
    uint32_t axes = 0;
    for (int i = 0; i < x.rank; ++i) {
      const int axis = Axis(context, x, i);
      if (axis < 0) return WrongShape("axes that are no permutation");
      y->dims[i] = x.dims[axis];
      axes |= 1u << axis;
    }
    return axes == (1u << x.rank) - 1 ? Status() : WrongShape("axes that are no permutation");
  }

  Status Compute(tfl::Context* context, const Shape& y) override {
    Shape x;
    TFS_RETURN_IF_ERROR(X(context, 0, &x));
    int64_t strides[kMaxRank], stride = 1;
    for (int i = x.rank - 1; i >= 0; --i) {
      strides[i] = stride;
      stride *= x.dims[i];
    }
    BinaryOperands o;
    o.axes = y.rank;
    for (int i = 0; i < y.rank; ++i) {
      o.sizes[i] = y.dims[i];
      o.a_strides[i] = strides[Axis(context, x, i)];
    }
    o.a = In(context);
    o.y = Out(context);
    return RunTranspose(runtime_, o);
  }

 private:
  // The axis of x that becomes axis i, or -1.
  int Axis(tfl::Context* context, const Shape& x, int i) const {
    const tfl::Tensor& order = *Input(context, 1);
    if (order.bytes != sizeof(int32_t) * static_cast<size_t>(x.rank)) return -1;
    const int32_t axis = order.data.i32[i] < 0 ? order.data.i32[i] + x.rank : order.data.i32[i];
    return axis < x.rank ? axis : -1;
  }
};

// Zeros around x.
class PadOp : public GlueOp {
 public:
  static bool Supports(const tfl::Context& context, const tfl::Node& node) {
    if (node.inputs->size != 2) return false;
    const tfl::Tensor& x = context.tensors[node.inputs->data[0]];
    const tfl::Tensor& sizes = context.tensors[node.inputs->data[1]];
    return x.dims != nullptr && x.dims->size >= 1 && x.dims->size <= kMaxRank && IsConstant(sizes, tfl::kInt32) &&
           sizes.bytes == 2 * sizeof(int32_t) * static_cast<size_t>(x.dims->size);
  }

 protected:
  Status Infer(tfl::Context* context, Shape* y) override {
    TFS_RETURN_IF_ERROR(X(context, 0, y));
    const tfl::Tensor& sizes = *Input(context, 1);
    if (sizes.bytes != 2 * sizeof(int32_t) * static_cast<size_t>(y->rank)) return WrongShape("another rank");
    for (int i = 0; i < y->rank; ++i) {
      const int64_t before = sizes.data.i32[2 * i], after = sizes.data.i32[2 * i + 1], size = before + y->dims[i] + after;
      if (before < 0 || after < 0 || size > INT_MAX) return WrongShape("a padding below 0 or far above it");
      y->dims[i] = static_cast<int32_t>(size);
    }
    return Status();
  }

  // Row by row of x; its first elements lie in y where the zeros before all axes leave them.
  Status Compute(tfl::Context* context, const Shape& y) override {
    Shape x;
    TFS_RETURN_IF_ERROR(X(context, 0, &x));
    const int32_t* sizes = Input(context, 1)->data.i32;
    float* const out = Out(context);
    std::memset(out, 0, static_cast<size_t>(y.elements()) * sizeof(float));
    const int last = y.rank - 1;
    const int64_t count = x.dims[last], rows = count == 0 ? 0 : x.elements() / count;
    for (int64_t row = 0; row < rows; ++row) {
      int64_t at = sizes[2 * last], stride = y.dims[last], rest = row;
      for (int i = last - 1; i >= 0; --i) {
        at += (rest % x.dims[i] + sizes[2 * i]) * stride;
        rest /= x.dims[i];
        stride *= y.dims[i];
      }
      std::memcpy(out + at, In(context) + row * count, static_cast<size_t>(count) * sizeof(float));
    }
    return Status();
  }
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_GLUE_MOVES_H_
