// As much of a TFLite interpreter as one op needs: tensors that end where the sanitizer watches, a ResizeTensor, and options as a FlexBuffer.
#ifndef TFLITE_SMART_FUZZ_FAKE_RUNTIME_H_
#define TFLITE_SMART_FUZZ_FAKE_RUNTIME_H_

#include <string>

#include "doors/op.h"
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
    context_.ReportError = Ignore;
    context_.recommended_num_threads = 1;
  }
  ~FakeRuntime() {
    for (tfl::Tensor& tensor : tensors_) {
      std::free(tensor.dims);
      std::free(tensor.data.raw);
    }
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
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
    if (!Allocate(&tensors_.back())) return false;
    if (data != nullptr && tensors_.back().bytes > 0) std::memcpy(tensors_.back().data.raw, data, tensors_.back().bytes);
    return true;
  }

  tfl::Context* context() { return &context_; }
  tfl::Tensor& tensor(size_t i) { return tensors_[i]; }
  size_t num_tensors() const { return tensors_.size(); }

  static tfl::IntArray* MakeDims(const int32_t* values, int size) {
    auto* dims = static_cast<tfl::IntArray*>(std::malloc(sizeof(int) * static_cast<size_t>(size + 1)));
    dims->size = size;
    if (size > 0) std::memcpy(reinterpret_cast<int*>(dims) + 1, values, sizeof(int) * static_cast<size_t>(size));
    return dims;
  }

 private:
  static size_t ElementBytes(tfl::Type type) { return type == tfl::kInt64 ? 8 : type == tfl::kInt8 || type == tfl::kUInt8 ? 1 : 4; }

  static void Ignore(tfl::Context*, const char*, ...) {}

  static bool Allocate(tfl::Tensor* tensor) {
    size_t bytes = ElementBytes(tensor->type);
    const int* dims = reinterpret_cast<const int*>(tensor->dims) + 1;
    for (int i = 0; i < tensor->dims->size; ++i) {
      const size_t dim = static_cast<size_t>(dims[i] < 0 ? 0 : dims[i]);
      if (dim != 0 && bytes > kMaxBytes / dim) return false;
      bytes *= dim;
    }
    std::free(tensor->data.raw);
    tensor->data.raw = nullptr;
    tensor->bytes = bytes;
    FUZZ_CHECK(posix_memalign(&tensor->data.raw, 64, bytes + (bytes == 0)) == 0);
    std::memset(tensor->data.raw, 0xA5, bytes);
    return true;
  }

  static tfl::Status ResizeTensor(tfl::Context*, tfl::Tensor* tensor, tfl::IntArray* dims) {
    std::free(tensor->dims);
    tensor->dims = dims;
    return Allocate(tensor) ? tfl::kOk : tfl::kError;
  }

  tfl::Context context_ = {};
  std::vector<tfl::Tensor> tensors_;
};

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_FAKE_RUNTIME_H_
