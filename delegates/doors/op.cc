#include "doors/op.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace tflite_smart {
namespace {

size_t ElementBytes(tfl::Type type) {
  switch (type) {
    case tfl::kFloat32:
    case tfl::kInt32: return 4;
    case tfl::kInt64: return 8;
    case tfl::kFloat16: return 2;
    case tfl::kUInt8:
    case tfl::kInt8: return 1;
    case tfl::kNoType: break;
  }
  return 0;
}

const char* TypeName(tfl::Type type) {
  switch (type) {
    case tfl::kFloat32: return "float32";
    case tfl::kInt32: return "int32";
    case tfl::kInt64: return "int64";
    case tfl::kUInt8: return "uint8";
    case tfl::kInt8: return "int8";
    case tfl::kFloat16: return "float16";
    case tfl::kNoType: break;
  }
  return "another";
}

}  // namespace

Status Options::Parse(const void* data, int size) {
  if (size > 0 && map_.Parse(static_cast<const uint8_t*>(data), static_cast<size_t>(size))) return Status();
  return MakeError(Code::kInvalidArgument, "custom options must be a FlexBuffer map. Received: %d other bytes. Convert the model again.", size);
}

Status Options::Int(const char* key, int64_t min, int64_t max, int32_t* value) const {
  int64_t received = 0;
  const FlexMap::Result result = map_.GetInt(key, &received);
  if (result == FlexMap::kFound && received >= min && received <= max) {
    *value = static_cast<int32_t>(received);
    return Status();
  }
  if (result == FlexMap::kFound) {
    return MakeError(Code::kInvalidArgument, "option %s must be %lld..%lld. Received: %s=%lld. Convert the model again.", key,
                     static_cast<long long>(min), static_cast<long long>(max), key, static_cast<long long>(received));
  }
  return MakeError(Code::kInvalidArgument, "option %s must be an integer. Received: %s. Convert the model again.", key,
                   result == FlexMap::kMissing ? "no such key" : "another type");
}

Status Options::Int(const char* key, int64_t min, int64_t max, int32_t missing, int32_t* value) const {
  int64_t received;
  if (map_.GetInt(key, &received) != FlexMap::kMissing) return Int(key, min, max, value);
  *value = missing;
  return Status();
}

Status Options::Choice(const char* key, const char* const* names, int* index) const {
  char received[32];
  const FlexMap::Result result = map_.GetString(key, received, sizeof(received));
  if (result == FlexMap::kFound) {
    for (*index = 0; names[*index] != nullptr; ++*index) {
      if (std::strcmp(names[*index], received) == 0) return Status();
    }
    char known[96] = "";
    for (int i = 0; names[i] != nullptr; ++i) {
      std::strncat(known, i == 0 ? "" : ", ", sizeof(known) - std::strlen(known) - 1);
      std::strncat(known, names[i], sizeof(known) - std::strlen(known) - 1);
    }
    return MakeError(Code::kUnsupported, "option %s must be one of %s. Received: %s=%s.", key, known, key, received);
  }
  return MakeError(Code::kInvalidArgument, "option %s must be a string. Received: %s. Convert the model again.", key,
                   result == FlexMap::kMissing ? "no such key" : "another type");
}

Status Options::Choice(const char* key, const char* const* names, int missing, int* index) const {
  char received[2];
  if (map_.GetString(key, received, sizeof(received)) != FlexMap::kMissing) return Choice(key, names, index);
  *index = missing;
  return Status();
}

Status Op::Init(tfl::Context* context, const tfl::Node& node, Runtime* runtime) {
  runtime_ = runtime;
  if (node.inputs == nullptr || node.outputs == nullptr || node.inputs->size < MinInputs() || node.inputs->size > MaxInputs() ||
      node.outputs->size != 1) {
    return MakeError(Code::kInvalidArgument, "a node must have %d to %d inputs and 1 output. Received: %d inputs, %d outputs.", MinInputs(),
                     MaxInputs(), node.inputs == nullptr ? 0 : node.inputs->size, node.outputs == nullptr ? 0 : node.outputs->size);
  }
  inputs_.assign(node.inputs->data, node.inputs->data + node.inputs->size);
  output_ = node.outputs->data[0];
  for (int i = -1; i < node.inputs->size; ++i) {
    const int tensor = i < 0 ? output_ : inputs_[static_cast<size_t>(i)];
    if ((tensor != tfl::kOptionalTensor || i < MinInputs()) && (tensor < 0 || static_cast<size_t>(tensor) >= context->tensors_size)) {
      return MakeError(Code::kInvalidArgument, "tensors must be 0..%zu. Received: tensor=%d.", context->tensors_size - 1, tensor);
    }
  }
  return Open(context, node);
}

tfl::Tensor* Op::Input(tfl::Context* context, size_t i) const {
  return i < inputs_.size() && inputs_[i] != tfl::kOptionalTensor ? &context->tensors[inputs_[i]] : nullptr;
}

Status PackedOp::Open(tfl::Context* context, const tfl::Node& node) {
  TFS_RETURN_IF_ERROR(OpenWeight(context));
  runtime_->ids.Add(weight_.num_elements());
  Options options;
  TFS_RETURN_IF_ERROR(options.Parse(node.custom_initial_data, node.custom_initial_data_size));
  return ReadOptions(options);
}

Status PackedOp::KeepIdsOnce(tfl::Context* context) {
  if (has_run_) return Status();
  has_run_ = true;
  is_small_ = runtime_->KeepsIds(weight_.num_elements());
  return is_small_ && KeepsIds(context) ? kept_ids_.Keep(&weight_) : Status();
}

Status PackedOp::Run(tfl::Context* context) {
  TFS_RETURN_IF_ERROR(KeepIdsOnce(context));
  return Invoke(context);
}

Status PackedOp::RunLines(tfl::Context* context, const Lines& x, const Lines& y) {
  TFS_RETURN_IF_ERROR(KeepIdsOnce(context));
  return InvokeLines(context, x, y);
}

Status PackedOp::OpenWeight(tfl::Context* context) {
  const tfl::Tensor& tensor = *Input(context, PackedInput());
  const bool constant = tensor.allocation_type == tfl::kMmapRo || tensor.allocation_type == tfl::kPersistentRo;
  // The shape of a byte vector says its size twice. If it does not, we may be reading structures of another layout than tflite_abi.h's.
  const bool bytes = tensor.type == tfl::kUInt8 && tensor.dims != nullptr && tensor.dims->size == 1 &&
                     static_cast<size_t>(tensor.dims->data[0]) == tensor.bytes;
  if (!constant || !bytes || tensor.data.raw == nullptr) {
    return MakeError(Code::kInvalidArgument, "packed weight must be a constant uint8 tensor of one dimension. Received: type=%s, %s.",
                     TypeName(tensor.type), constant ? "constant" : "not constant");
  }
  TFS_RETURN_IF_ERROR(tflite_smart::Open(tensor.data.u8, tensor.bytes, &weight_));
  return ReadChannels(&weight_, &channels_);
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) product *= dims[i];
  return product;
}

bool Shape::operator==(const Shape& other) const {
  return rank == other.rank && std::memcmp(dims, other.dims, sizeof(dims[0]) * static_cast<size_t>(rank)) == 0;
}

Status ReadShape(const tfl::Tensor* tensor, tfl::Type type, const char* what, Shape* shape) {
  if (tensor == nullptr || tensor->type != type) {
    return MakeError(Code::kInvalidArgument, "%s type must be %s. Received: type=%s (%d).", what, TypeName(type),
                     tensor == nullptr ? "none" : TypeName(tensor->type), tensor == nullptr ? 0 : static_cast<int>(tensor->type));
  }
  const int rank = tensor->dims == nullptr ? 0 : tensor->dims->size;
  if (rank < 0 || rank > kMaxRank) {
    return MakeError(Code::kUnsupported, "%s dimensions must be at most %d. Received: dimensions=%d.", what, kMaxRank, rank);
  }
  shape->rank = rank;
  for (int i = 0; i < rank; ++i) {
    shape->dims[i] = tensor->dims->data[i];
    if (shape->dims[i] < 0) {
      return MakeError(Code::kInvalidArgument, "%s dimension %d must be known. Received: %d.", what, i, shape->dims[i]);
    }
  }
  return Status();
}

Status Resize(tfl::Context* context, tfl::Tensor* tensor, const Shape& shape) {
  // malloc, because the runtime keeps the array and frees it.
  auto* dims = static_cast<tfl::IntArray*>(std::malloc(sizeof(int) * static_cast<size_t>(shape.rank + 1)));
  if (dims == nullptr) return MakeError(Code::kOutOfMemory, "output shape: no memory for %d integers.", shape.rank);
  dims->size = shape.rank;
  std::memcpy(reinterpret_cast<int*>(dims) + 1, shape.dims, sizeof(int) * static_cast<size_t>(shape.rank));
  if (context->ResizeTensor(context, tensor, dims) == tfl::kOk) return Status();
  return MakeError(Code::kInvalidArgument, "output: the runtime must accept its new shape of %d dimensions. Received: a refusal, see above.",
                   shape.rank);
}

Status CheckMemory(const tfl::Tensor* tensor, const Shape& shape, const char* what) {
  const uint64_t expected = static_cast<uint64_t>(shape.elements()) * ElementBytes(tensor->type);
  if (tensor->bytes == expected && (tensor->data.raw != nullptr || expected == 0)) return Status();
  return MakeError(Code::kInvalidArgument, "%s bytes must be %llu. Received: bytes=%zu%s. Call allocate_tensors() first.", what,
                   static_cast<unsigned long long>(expected), tensor->bytes, tensor->data.raw == nullptr ? ", not allocated" : "");
}

std::unique_ptr<Op> MakeOp(const char* custom_name) {
  const size_t prefix = sizeof(kOpPrefix) - 1;
  if (std::strncmp(custom_name, kOpPrefix, prefix) == 0) custom_name += prefix;
  if (std::strcmp(custom_name, "Conv2D") == 0) return MakeConv2D(false);
  if (std::strcmp(custom_name, "DepthwiseConv2D") == 0) return MakeConv2D(true);
  if (std::strcmp(custom_name, "FullyConnected") == 0) return MakeFullyConnected();
  if (std::strcmp(custom_name, "Expand") == 0) return MakeExpand();
  if (std::strcmp(custom_name, "Gather") == 0) return MakeGather();
  return nullptr;
}

const char* OpNames() { return "Conv2D, DepthwiseConv2D, FullyConnected, Expand, Gather"; }

}  // namespace tflite_smart
