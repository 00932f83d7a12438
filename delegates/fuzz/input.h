// What the fuzz targets share: picking numbers from the fuzzer's bytes, memory that ends where the address sanitizer watches, and the check that fails.
#ifndef TFLITE_SMART_FUZZ_INPUT_H_
#define TFLITE_SMART_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "core/status.h"
#include "kernels/isa.h"

// A promise broken: the fuzzers keep the input and stop.
#define FUZZ_CHECK(condition)                                                              \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      std::fprintf(stderr, "%s:%d: promise broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                        \
    }                                                                                      \
  } while (false)

namespace tflite_smart {
namespace fuzz {

// Hands out the fuzzer's bytes from the first to the last; zeros behind them.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  template <typename T>
  T Take() {
    T value = {};
    const size_t bytes = size_ < sizeof(T) ? size_ : sizeof(T);
    if (bytes > 0) std::memcpy(&value, data_, bytes);
    data_ += bytes;
    size_ -= bytes;
    return value;
  }

  // 0..count-1.
  uint32_t Choose(uint32_t count) { return Take<uint8_t>() % count; }

  // Once in `count` times; never behind the last byte.
  bool Seldom(uint32_t count) { return Choose(count) == count - 1; }

  size_t left() const { return size_; }
  std::vector<uint8_t> Rest() const { return std::vector<uint8_t>(data_, data_ + size_); }

 private:
  const uint8_t* data_;
  size_t size_;
};

// 64-byte aligned, ends exactly at its size, filled with what no test expects.
template <typename T>
class Exact {
 public:
  explicit Exact(size_t count) : count_(count) {
    void* memory = nullptr;
    FUZZ_CHECK(posix_memalign(&memory, 64, count * sizeof(T) + (count == 0)) == 0);
    std::memset(memory, 0xA5, count * sizeof(T));
    data_.reset(static_cast<T*>(memory));
  }
  explicit Exact(const std::vector<T>& values) : Exact(values.size()) {
    if (count_ > 0) std::memcpy(data_.get(), values.data(), count_ * sizeof(T));
  }

  T* data() const { return data_.get(); }
  size_t size() const { return count_; }
  bool operator==(const Exact& other) const {
    return count_ == other.count_ && std::memcmp(data(), other.data(), count_ * sizeof(T)) == 0;
  }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  size_t count_;
  std::unique_ptr<T, Free> data_;
};

// Calls run(i) with every instruction set of this machine active, the scalar one first.
template <typename Run>
void OnEveryIsa(const Run& run) {
  for (int i = 0; AvailableIsa(i) != nullptr; ++i) {
    ForceIsa(AvailableIsa(i)->name);
    run(i);
  }
  ForceIsa(nullptr);
}

}  // namespace fuzz
}  // namespace tflite_smart

// What a target defines; the signatures are libFuzzer's.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // TFLITE_SMART_FUZZ_INPUT_H_
