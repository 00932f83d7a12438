// BATCH_MATMUL, where nothing is packed: the products of attention.
#ifndef TFLITE_SMART_DOORS_GLUE_MATMUL_H_
#define TFLITE_SMART_DOORS_GLUE_MATMUL_H_

#include <algorithm>

#include "doors/glue_op.h"
#include "kernels/matmul.h"

namespace tflite_smart {

class BatchMatMulOp : public GlueOp {
 public:
  static bool Supports(const tfl::Context& context, const tfl::Node& node) {
    if (node.inputs->size != 2 || Params<tfl::BatchMatMulParams>(node).adjoint_x) return false;
    for (int i = 0; i < 2; ++i) {
      const tfl::IntArray* dims = context.tensors[node.inputs->data[i]].dims;
      if (dims == nullptr || dims->size < 2 || dims->size > kMaxRank) return false;
    }
    return true;
  }

 protected:
  Status Open(tfl::Context*, const tfl::Node& node) override {
    transposed_b_ = Params<tfl::BatchMatMulParams>(node).adjoint_y;
    return Status();
  }

  Status Infer(tfl::Context* context, Shape* y) override {
    MatMul unused;
    return Read(context, &unused, y);
  }

  Status Compute(tfl::Context* context, const Shape&) override {
    MatMul m;
    Shape y;
    TFS_RETURN_IF_ERROR(Read(context, &m, &y));
    m.a = In(context, 0);
    m.b = In(context, 1);
    m.y = Out(context);
    return RunMatMul(runtime_, m);
  }

 private:
  // Axes before the last two are those of the batch; they are aligned at their ends and may be broadcast.
  Status Read(tfl::Context* context, MatMul* m, Shape* y) const {
    Shape a, b;
    TFS_RETURN_IF_ERROR(X(context, 0, &a));
    TFS_RETURN_IF_ERROR(X(context, 1, &b));
    if (a.rank < 2 || b.rank < 2) return WrongShape("fewer than 2 dimensions");
    const int32_t *a_matrix = a.dims + a.rank - 2, *b_matrix = b.dims + b.rank - 2;
    m->rows = a_matrix[0];
    m->depth = a_matrix[1];
    m->columns = b_matrix[transposed_b_ ? 0 : 1];
    m->transposed_b = transposed_b_;
    if (b_matrix[transposed_b_ ? 1 : 0] != m->depth) return WrongShape("matrices that do not multiply");
    y->rank = std::max(a.rank, b.rank);
    y->dims[y->rank - 2] = a_matrix[0];
    y->dims[y->rank - 1] = static_cast<int32_t>(m->columns);
    m->axes = y->rank - 2;
    int64_t a_stride = m->rows * m->depth, b_stride = m->depth * m->columns;
    for (int i = m->axes - 1; i >= 0; --i) {
      const int i_a = i - (y->rank - a.rank), i_b = i - (y->rank - b.rank);
      const int32_t p = i_a < 0 ? 1 : a.dims[i_a], q = i_b < 0 ? 1 : b.dims[i_b];
      if (p != q && p != 1 && q != 1) return WrongShape("batches of different sizes, none of them 1");
      y->dims[i] = p == 1 ? q : p;
      m->sizes[i] = y->dims[i];
      m->a_strides[i] = p == 1 ? 0 : a_stride;
      m->b_strides[i] = q == 1 ? 0 : b_stride;
      a_stride *= p;
      b_stride *= q;
    }
    return Status();
  }

  bool transposed_b_ = false;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_GLUE_MATMUL_H_
