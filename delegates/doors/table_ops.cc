// TFLiteSmart.Expand (packed weight, trigger or nothing -> the constant it was) and TFLiteSmart.Gather (packed weight, indices -> rows).
#include <new>

#include "doors/op.h"
#include "kernels/expand.h"
#include "kernels/gather.h"

namespace tflite_smart {
namespace {

// The trigger only tells the runtime when: an Expand that nothing comes before would be moved to the start of the model, and the memory
// of all of them would be alive together.
//
// The output is decoded at every invocation, because the runtime gives its memory to others in between.
class ExpandOp : public PackedOp {
 public:
  Status Prepare(tfl::Context* context) override {
    Shape shape;
    TFS_RETURN_IF_ERROR(ReadShape(Output(context), Type(), "output", &shape));
    int64_t inner = 1;
    for (int i = axis_ + 1; i < shape.rank; ++i) inner *= shape.dims[i];
    if (axis_ < shape.rank && shape.elements() == static_cast<int64_t>(weight_.num_elements()) &&
        shape.dims[axis_] == static_cast<int64_t>(weight_.num_channels) && inner == static_cast<int64_t>(weight_.inner_elements)) {
      return Status();
    }
    return MakeError(Code::kInvalidArgument, "packed weight N, K, inner_elements must give the output's %lld elements with axis=%d of %d "
                     "dimensions. Received: N=%u, K=%u, inner_elements=%u.", static_cast<long long>(shape.elements()), axis_, shape.rank,
                     weight_.num_channels, weight_.channel_elements, weight_.inner_elements);
  }

  Status Invoke(tfl::Context* context) override {
    tfl::Tensor* y = Output(context);
    Shape shape;
    TFS_RETURN_IF_ERROR(ReadShape(y, Type(), "output", &shape));
    TFS_RETURN_IF_ERROR(CheckMemory(y, shape, "output"));
    return Type() == tfl::kInt8 ? ExpandInt8(runtime_, weight_, y->data.i8) : ExpandFloat(runtime_, weight_, y->data.f);
  }

 protected:
  Status ReadOptions(const Options& options) override { return options.Int("axis", 0, kMaxRank - 1, &axis_); }
  size_t PackedInput() const override { return 0; }
  int MinInputs() const override { return 1; }

 private:
  tfl::Type Type() const { return weight_.value_kind == ValueKind::kInteger ? tfl::kInt8 : tfl::kFloat32; }

  int32_t axis_ = 0;
};

class GatherOp : public PackedOp {
 public:
  Status Prepare(tfl::Context* context) override {
    Shape indices, y;
    TFS_RETURN_IF_ERROR(Shapes(context, &indices, &y));
    return Resize(context, Output(context), y);
  }

  Status Invoke(tfl::Context* context) override {
    Shape indices, y;
    TFS_RETURN_IF_ERROR(Shapes(context, &indices, &y));
    if (Output(context)->allocation_type == tfl::kDynamic) TFS_RETURN_IF_ERROR(Resize(context, Output(context), y));
    const tfl::Tensor* tensor = Input(context, 1);
    TFS_RETURN_IF_ERROR(CheckMemory(tensor, indices, "indices"));
    TFS_RETURN_IF_ERROR(CheckMemory(Output(context), y, "output"));
    const size_t count = static_cast<size_t>(indices.elements());
    if (count == 0) return Status();
    std::unique_ptr<GatherRow[]> rows(new (std::nothrow) GatherRow[count]);
    if (rows == nullptr) return MakeError(Code::kOutOfMemory, "indices: no memory to sort %zu of them.", count);
    for (size_t i = 0; i < count; ++i) {
      const int64_t index = tensor->type == tfl::kInt64 ? tensor->data.i64[i] : tensor->data.i32[i];
      if (index < 0 || index >= static_cast<int64_t>(weight_.num_channels)) {
        return MakeError(Code::kInvalidArgument, "indices must be 0..%u. Received: indices[%zu]=%lld.", weight_.num_channels - 1, i,
                         static_cast<long long>(index));
      }
      rows[i] = {static_cast<uint32_t>(index), static_cast<uint32_t>(i)};
    }
    return GatherRows(runtime_, weight_, rows.get(), count, Output(context)->data.f);
  }

 protected:
  Status ReadOptions(const Options&) override {
    if (weight_.value_kind != ValueKind::kInteger && weight_.inner_elements == weight_.channel_elements) return Status();
    return MakeError(Code::kInvalidArgument, "packed weight must be float32 with its channels on the first axis. Received: value_kind=%d, "
                     "inner_elements=%u of K=%u.", static_cast<int>(weight_.value_kind), weight_.inner_elements, weight_.channel_elements);
  }
  size_t PackedInput() const override { return 0; }

 private:
  // y = the shape of the indices, then that of a row. The packed weight only knows how many elements a row has: its shape is what the
  // model's file gives the output, read the first time, when nobody has resized anything.
  Status Shapes(tfl::Context* context, Shape* indices, Shape* y) {
    const tfl::Tensor* tensor = Input(context, 1);
    TFS_RETURN_IF_ERROR(ReadShape(tensor, tensor->type == tfl::kInt64 ? tfl::kInt64 : tfl::kInt32, "indices", indices));
    TFS_RETURN_IF_ERROR(ReadShape(Output(context), tfl::kFloat32, "output", y));
    if (!know_row_) {
      row_.rank = y->rank - indices->rank;
      for (int i = 0; i < row_.rank; ++i) row_.dims[i] = y->dims[indices->rank + i];
      if (row_.rank < 0 || row_.elements() != static_cast<int64_t>(weight_.channel_elements)) {
        return MakeError(Code::kInvalidArgument, "output dimensions behind those of the indices must multiply to K=%u. Received: %lld.",
                         weight_.channel_elements, static_cast<long long>(row_.rank < 0 ? 0 : row_.elements()));
      }
      know_row_ = true;
    }
    if (indices->rank + row_.rank > kMaxRank || indices->elements() > UINT32_MAX) {
      return MakeError(Code::kUnsupported, "output dimensions must be at most %d. Received: dimensions=%d.", kMaxRank, indices->rank + row_.rank);
    }
    y->rank = indices->rank + row_.rank;
    for (int i = 0; i < indices->rank; ++i) y->dims[i] = indices->dims[i];
    for (int i = 0; i < row_.rank; ++i) y->dims[indices->rank + i] = row_.dims[i];
    return Status();
  }

  bool know_row_ = false;
  Shape row_;
};

}  // namespace

std::unique_ptr<Op> MakeExpand() { return std::unique_ptr<Op>(new (std::nothrow) ExpandOp); }
std::unique_ptr<Op> MakeGather() { return std::unique_ptr<Op>(new (std::nothrow) GatherOp); }

}  // namespace tflite_smart
