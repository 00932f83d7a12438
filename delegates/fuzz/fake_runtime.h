// As much of a TFLite interpreter as ops and segments need: tensors that end where the sanitizer watches, nodes, a ResizeTensor, and options as a FlexBuffer.
#ifndef TFLITE_SMART_FUZZ_FAKE_RUNTIME_H_
#define TFLITE_SMART_FUZZ_FAKE_RUNTIME_H_

#include <deque>
#include <string>

#include "doors/op.h"
#include "fuzz/allocations.h"
#include "fuzz/input.h"

namespace tflite_smart {
namespace fuzz {

// A FlexBuffer map of integers and strings, every width 8 bytes.
class OptionsWriter {
 public:
  void Int(const char* key, int64_t value) { entries_.push_back({key, "", value, false}); }
  void String(const char* key, const char* value) { entries_.push_back({key, value, 0, true}); }

  std::vector<uint8_t> Finish() {
    std::vector<uint8_t> out;
    std::vector<uint64_t> keys, values;
    const auto put = [&out](uint64_t value) {
      for (int i = 0; i < 8; ++i) out.push_back(static_cast<uint8_t>(value >> 8 * i));
    };
    const auto text = [&out](const std::string& value) { out.insert(out.end(), value.c_str(), value.c_str() + value.size() + 1); };
    for (const Entry& entry : entries_) {
      keys.push_back(out.size());
      text(entry.key);
      if (entry.is_string) put(entry.text.size());
      values.push_back(out.size());
      if (entry.is_string) text(entry.text);
    }
    put(keys.size());
    const uint64_t keys_at = out.size();
    for (const uint64_t key : keys) put(out.size() - key);
    put(out.size() - keys_at);
    put(8);
    put(keys.size());
    const uint64_t map_at = out.size();
    for (size_t i = 0; i < values.size(); ++i) put(entries_[i].is_string ? out.size() - values[i] : static_cast<uint64_t>(entries_[i].number));
    for (const Entry& entry : entries_) out.push_back(static_cast<uint8_t>((entry.is_string ? 5 : 1) << 2 | 3));
    put(out.size() - map_at);
    out.push_back(9 << 2 | 3);
    out.push_back(8);
    return out;
  }

 private:
  struct Entry {
    std::string key, text;
    int64_t number;
    bool is_string;
  };
  std::vector<Entry> entries_;
};

class FakeRuntime {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 22;  // an output above it is refused, as by a runtime without memory

  FakeRuntime() {
    context_.impl = this;
    context_.ResizeTensor = ResizeTensor;
    context_.AddTensors = AddTensors;
    context_.GetNodeAndRegistration = GetNode;
    context_.ReportError = Ignore;
    context_.recommended_num_threads = 1;
  }
  ~FakeRuntime() {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      std::free(tensors_[i].dims);
      std::free(memory_[i]);
    }
    while (!nodes_.empty()) DropNode();
  }
  FakeRuntime(const FakeRuntime&) = delete;
  FakeRuntime& operator=(const FakeRuntime&) = delete;

  // Memory for the shape; false where that is more than kMaxBytes.
  bool AddTensor(tfl::Type type, const std::vector<int32_t>& shape, tfl::AllocationType allocation, const void* data = nullptr) {
    tfl::Tensor tensor = {};
    tensor.type = type;
    tensor.allocation_type = allocation;
    tensor.name = "tensor";
    tensor.params = {0.5f, 3};
    tensor.dims = MakeDims(shape.data(), static_cast<int>(shape.size()));
    tensors_.push_back(tensor);
    memory_.push_back(nullptr);
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
    if (!Allocate(&tensors_.back())) return false;
    if (data != nullptr && tensors_.back().bytes > 0) std::memcpy(tensors_.back().data.raw, data, tensors_.back().bytes);
    return true;
  }

  // `settings`: the custom options of an op of ours (whose code is kBuiltinCustom and which has a name), or the parameters of a builtin one.
  int AddNode(int code, const char* name, const std::vector<int>& inputs, int output, const std::vector<uint8_t>& settings) {
    nodes_.emplace_back();
    NodeEntry& entry = nodes_.back();
    entry.settings = settings;
    entry.registration.builtin_code = code;
    entry.registration.custom_name = name;
    entry.node.inputs = MakeDims(inputs.data(), static_cast<int>(inputs.size()));
    entry.node.outputs = MakeDims(&output, 1);
    if (code == tfl::kBuiltinCustom) {
      entry.node.custom_initial_data = entry.settings.data();
      entry.node.custom_initial_data_size = static_cast<int>(settings.size());
    } else if (!settings.empty()) {
      entry.node.builtin_data = entry.settings.data();
    }
    return static_cast<int>(nodes_.size()) - 1;
  }

  void DropNode() {
    std::free(nodes_.back().node.inputs);
    std::free(nodes_.back().node.outputs);
    nodes_.pop_back();
  }

  tfl::Context* context() { return &context_; }
  tfl::Tensor& tensor(size_t i) { return tensors_[i]; }
  int num_nodes() const { return static_cast<int>(nodes_.size()); }
  int code(int node) const { return nodes_[static_cast<size_t>(node)].registration.builtin_code; }
  tfl::Node& node(int i) { return nodes_[static_cast<size_t>(i)].node; }
  size_t num_tensors() const { return tensors_.size(); }

  static tfl::IntArray* MakeDims(const int32_t* values, int size) {
    auto* dims = static_cast<tfl::IntArray*>(std::malloc(sizeof(int) * static_cast<size_t>(size + 1)));
    dims->size = size;
    if (size > 0) std::memcpy(reinterpret_cast<int*>(dims) + 1, values, sizeof(int) * static_cast<size_t>(size));
    return dims;
  }

  std::vector<int32_t> shape(int i) const {
    const tfl::IntArray* dims = tensors_[static_cast<size_t>(i)].dims;
    const int* first = reinterpret_cast<const int*>(dims) + 1;
    return {first, first + dims->size};
  }
  bool Reshape(int i, const std::vector<int32_t>& shape) {
    return ResizeTensor(&context_, &tensors_[static_cast<size_t>(i)], MakeDims(shape.data(), static_cast<int>(shape.size()))) == tfl::kOk;
  }
  std::vector<uint8_t> bytes(int i) const {
    const tfl::Tensor& tensor = tensors_[static_cast<size_t>(i)];
    return {tensor.data.u8, tensor.data.u8 + tensor.bytes};
  }

  // One tensor becomes another, shape and all.
  bool Copy(int from, int to) {
    if (!Reshape(to, shape(from))) return false;
    const tfl::Tensor& x = tensors_[static_cast<size_t>(from)];
    if (x.bytes > 0) std::memcpy(tensors_[static_cast<size_t>(to)].data.raw, x.data.raw, x.bytes);
    return true;
  }

 private:
  struct NodeEntry {
    tfl::Node node = {};
    tfl::Registration registration = {};
    std::vector<uint8_t> settings;
  };

  static size_t ElementBytes(tfl::Type type) {
    return type == tfl::kInt64 ? 8 : type == tfl::kInt8 || type == tfl::kUInt8 ? 1 : 4;
  }

  static void Ignore(tfl::Context*, const char*, ...) {}

  // A tensor's memory is remembered apart from it: whoever runs a segment lets inner tensors point elsewhere.
  bool Allocate(tfl::Tensor* tensor) {
    size_t bytes = ElementBytes(tensor->type);
    const int* dims = reinterpret_cast<const int*>(tensor->dims) + 1;
    for (int i = 0; i < tensor->dims->size; ++i) {
      const size_t dim = static_cast<size_t>(dims[i] < 0 ? 0 : dims[i]);
      if (dim != 0 && bytes > kMaxBytes / dim) return false;
      bytes *= dim;
    }
    void*& memory = memory_[static_cast<size_t>(tensor - tensors_.data())];
    std::free(memory);
    FUZZ_CHECK(posix_memalign(&memory, 64, bytes + (bytes == 0)) == 0);
    std::memset(memory, 0xA5, bytes);
    tensor->data.raw = memory;
    tensor->bytes = bytes;
    return true;
  }

  static tfl::Status ResizeTensor(tfl::Context* context, tfl::Tensor* tensor, tfl::IntArray* dims) {
    const AllocationWatch pause = AllocationWatch::Pause();
    std::free(tensor->dims);
    tensor->dims = dims;
    return static_cast<FakeRuntime*>(context->impl)->Allocate(tensor) ? tfl::kOk : tfl::kError;
  }

  static tfl::Status AddTensors(tfl::Context* context, int count, int* first) {
    const AllocationWatch pause = AllocationWatch::Pause();
    *first = static_cast<int>(context->tensors_size);
    for (int i = 0; i < count; ++i) static_cast<FakeRuntime*>(context->impl)->AddTensor(tfl::kNoType, {0}, tfl::kMemNone);
    return tfl::kOk;
  }

  static tfl::Status GetNode(tfl::Context* context, int index, tfl::Node** node, tfl::Registration** registration) {
    auto& nodes = static_cast<FakeRuntime*>(context->impl)->nodes_;
    if (index < 0 || static_cast<size_t>(index) >= nodes.size()) return tfl::kError;
    *node = &nodes[static_cast<size_t>(index)].node;
    *registration = &nodes[static_cast<size_t>(index)].registration;
    return tfl::kOk;
  }

  tfl::Context context_ = {};
  std::vector<tfl::Tensor> tensors_;
  std::vector<void*> memory_;  // of the tensors
  std::deque<NodeEntry> nodes_;  // which stay where they are
};

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_FAKE_RUNTIME_H_
