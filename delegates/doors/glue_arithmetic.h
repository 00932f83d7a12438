// Builtin operators that compute: sums and products, curves, pools.
#ifndef TFLITE_SMART_DOORS_GLUE_ARITHMETIC_H_
#define TFLITE_SMART_DOORS_GLUE_ARITHMETIC_H_

#include <algorithm>

#include "doors/bands.h"
#include "doors/glue_op.h"

namespace tflite_smart {

// Of two inputs, with broadcasting.
class BinaryOp : public GlueOp {
 public:
  explicit BinaryOp(Binary binary) : binary_(binary) {}
  static bool Supports(const tfl::Context&, const tfl::Node& node) {
    Activation activation;
    return node.inputs->size == 2 && ReadFused(Params<tfl::BinaryParams>(node).activation, &activation);
  }
  int InPlaceInput() const override { return 0; }

 protected:
  Status Open(tfl::Context*, const tfl::Node& node) override {
    ReadFused(Params<tfl::BinaryParams>(node).activation, &activation_);
    return Status();
  }

  Status Infer(tfl::Context* context, Shape* y) override {
    Shape a, b;
    TFS_RETURN_IF_ERROR(X(context, 0, &a));
    TFS_RETURN_IF_ERROR(X(context, 1, &b));
    y->rank = std::max(a.rank, b.rank);
    for (int i = 0; i < y->rank; ++i) {
      const int32_t p = Size(a, *y, i), q = Size(b, *y, i);
      if (p != q && p != 1 && q != 1) return WrongShape("axes of different sizes, none of them 1");
      y->dims[i] = p == 1 ? q : p;
    }
    return Status();
  }

  Status Compute(tfl::Context* context, const Shape& y) override {
    Shape a, b;
    TFS_RETURN_IF_ERROR(X(context, 0, &a));
    TFS_RETURN_IF_ERROR(X(context, 1, &b));
    BinaryOperands o;
    o.axes = y.rank;
    int64_t a_stride = 1, b_stride = 1;
    for (int i = y.rank - 1; i >= 0; --i) {
      o.sizes[i] = y.dims[i];
      o.a_strides[i] = Size(a, y, i) == 1 ? 0 : a_stride;
      o.b_strides[i] = Size(b, y, i) == 1 ? 0 : b_stride;
      a_stride *= Size(a, y, i);
      b_stride *= Size(b, y, i);
    }
    o.a = In(context, 0);
    o.b = In(context, 1);
    o.y = Out(context);
    return RunBinary(runtime_, binary_, o, activation_);
  }

 private:
  // Of an input's axis that lies under the output's axis i: shapes are aligned at their ends.
  static int32_t Size(const Shape& shape, const Shape& y, int i) {
    const int axis = i - (y.rank - shape.rank);
    return axis < 0 ? 1 : shape.dims[axis];
  }

  const Binary binary_;
  Activation activation_ = Activation::kNone;
};

// (a - b)^2
class SquaredDifferenceOp : public BinaryOp {
 public:
  SquaredDifferenceOp() : BinaryOp(Binary::kSquaredDifference) {}
  static bool Supports(const tfl::Context&, const tfl::Node& node) { return node.inputs->size == 2; }

 protected:
  Status Open(tfl::Context*, const tfl::Node&) override { return Status(); }
};

// y has the shape of x.
class UnaryOp : public GlueOp {
 public:
  static bool Supports(const tfl::Context&, const tfl::Node& node) { return node.inputs->size == 1; }
  int InPlaceInput() const override { return 0; }

 protected:
  Status Infer(tfl::Context* context, Shape* y) override { return X(context, 0, y); }
  Status Multiply(tfl::Context* context, const Shape& y, float factor, Activation activation) const {
    return RunBinary(runtime_, Binary::kMul, {1, {y.elements()}, {1}, {0}, In(context), &factor, Out(context)}, activation);
  }
};

class NegOp : public UnaryOp {
 protected:
  Status Compute(tfl::Context* context, const Shape& y) override { return Multiply(context, y, -1.0f, Activation::kNone); }
};

class RsqrtOp : public UnaryOp {
 protected:
  Status Compute(tfl::Context* context, const Shape& y) override { return RunRsqrt(runtime_, In(context), y.elements(), Out(context)); }
};

class CurveOp : public UnaryOp {
 public:
  explicit CurveOp(Curve curve) : curve_(curve) {}

 protected:
  Status Compute(tfl::Context* context, const Shape& y) override { return RunCurve(runtime_, curve_, In(context), y.elements(), Out(context)); }

 private:
  const Curve curve_;
};

// Not the one approximated by tanh.
class GeluOp : public CurveOp {
 public:
  GeluOp() : CurveOp(Curve::kGelu) {}
  static bool Supports(const tfl::Context& context, const tfl::Node& node) { return CurveOp::Supports(context, node) && !Params<tfl::GeluParams>(node).approximate; }
};

class ClampOp : public UnaryOp {
 public:
  explicit ClampOp(Activation activation) : activation_(activation) {}

 protected:
  Status Compute(tfl::Context* context, const Shape& y) override { return Multiply(context, y, 1.0f, activation_); }

 private:
  const Activation activation_;
};

class SoftmaxOp : public UnaryOp {
 protected:
  Status Open(tfl::Context*, const tfl::Node& node) override {
    beta_ = Params<tfl::SoftmaxParams>(node).beta;
    return Status();
  }
  Status Compute(tfl::Context* context, const Shape& y) override {
    const int64_t count = y.rank == 0 ? 1 : y.dims[y.rank - 1];
    return RunSoftmax(runtime_, y.elements() / count, count, beta_, In(context), Out(context));
  }

 private:
  float beta_ = 1.0f;
};

class PoolOp : public GlueOp {
 public:
  explicit PoolOp(Pool pool) : pool_(pool) {}
  static bool Supports(const tfl::Context&, const tfl::Node& node) {
    const auto& p = Params<tfl::PoolParams>(node);
    Activation activation;
    return node.inputs->size == 1 && ReadFused(p.activation, &activation) && (p.padding == tfl::kPaddingSame || p.padding == tfl::kPaddingValid) &&
           p.stride_width > 0 && p.stride_height > 0 && p.filter_width > 0 && p.filter_height > 0;
  }

  bool ReadLineWindow(tfl::Context*, LineWindow* window) const override {
    *window = WindowOf(geometry_);
    return true;
  }
  Status RunLines(tfl::Context*, const Lines& x, const Lines& y) override {
    return RunPool(runtime_, pool_, GeometryOf(geometry_, x, y), activation_, x.data, y.data);
  }

 protected:
  Status Open(tfl::Context*, const tfl::Node& node) override {
    const auto& p = Params<tfl::PoolParams>(node);
    padding_.same = p.padding == tfl::kPaddingSame;
    geometry_.filter_width = p.filter_width;
    geometry_.filter_height = p.filter_height;
    geometry_.stride_width = p.stride_width;
    geometry_.stride_height = p.stride_height;
    geometry_.dilation_width = geometry_.dilation_height = 1;
    ReadFused(p.activation, &activation_);
    return Status();
  }

  Status Infer(tfl::Context* context, Shape* y) override {
    TFS_RETURN_IF_ERROR(X(context, 0, y));
    if (y->rank != 4) return WrongShape("not 4 dimensions");
    geometry_.batch = y->dims[0];
    geometry_.in_height = y->dims[1];
    geometry_.in_width = y->dims[2];
    geometry_.in_channels = y->dims[3];
    if (!SetOutputSize(padding_, &geometry_)) return WrongShape("an image smaller than the window");
    y->dims[1] = geometry_.out_height;
    y->dims[2] = geometry_.out_width;
    return Status();
  }

  Status Compute(tfl::Context* context, const Shape&) override { return RunPool(runtime_, pool_, geometry_, activation_, In(context), Out(context)); }

 private:
  const Pool pool_;
  ConvGeometry geometry_ = {};
  Padding padding_ = {};
  Activation activation_ = Activation::kNone;
};

// Over neighbouring axes: those of an image, or the last.
class MeanOp : public GlueOp {
 public:
  static bool Supports(const tfl::Context& context, const tfl::Node& node) {
    if (node.inputs->size != 2) return false;
    MeanOp op;
    const tfl::Tensor& x = context.tensors[node.inputs->data[0]];
    return x.dims != nullptr && op.ReadAxes(context.tensors[node.inputs->data[1]], x.dims->size);
  }

 protected:
  Status Open(tfl::Context* context, const tfl::Node& node) override {
    keep_dims_ = Params<tfl::ReducerParams>(node).keep_dims;
    rank_ = Input(context, 0)->dims->size;
    return ReadAxes(*Input(context, 1), rank_) ? Status() : WrongShape("other axes");
  }

  Status Infer(tfl::Context* context, Shape* y) override {
    Shape x;
    TFS_RETURN_IF_ERROR(X(context, 0, &x));
    if (x.rank != rank_) return WrongShape("another rank");
    shape_ = {1, 1, 1};
    y->rank = 0;
    for (int i = 0; i < rank_; ++i) {
      (i < first_ ? shape_.outer : i < end_ ? shape_.reduced : shape_.inner) *= x.dims[i];
      const bool reduced = i >= first_ && i < end_;
      if (!reduced || keep_dims_) y->dims[y->rank++] = reduced ? 1 : x.dims[i];
    }
    return Status();
  }

  Status Compute(tfl::Context* context, const Shape&) override { return RunMean(runtime_, shape_, In(context), Out(context)); }

 private:
  bool ReadAxes(const tfl::Tensor& tensor, int rank) {
    const size_t count = tensor.bytes / sizeof(int32_t);
    if (!IsConstant(tensor, tfl::kInt32) || rank > kMaxRank || count < 1 || count > static_cast<size_t>(kMaxRank)) return false;
    uint32_t axes = 0;
    for (size_t i = 0; i < count; ++i) {
      const int32_t axis = tensor.data.i32[i] < 0 ? tensor.data.i32[i] + rank : tensor.data.i32[i];
      if (axis < 0 || axis >= rank) return false;
      axes |= 1u << axis;
    }
    first_ = __builtin_ctz(axes);
    end_ = 32 - __builtin_clz(axes);
    return axes == (1u << end_) - (1u << first_);
  }

  bool keep_dims_ = false;
  int rank_ = 0, first_ = 0, end_ = 0;
  MeanShape shape_ = {};
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_GLUE_ARITHMETIC_H_
