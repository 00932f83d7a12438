// How much memory the code under test holds at a time, where a sanitizer tells: see SECURITY.md for what is promised.
#ifndef TFLITE_SMART_FUZZ_ALLOCATIONS_H_
#define TFLITE_SMART_FUZZ_ALLOCATIONS_H_

#include <atomic>

#include "core/scratch.h"

extern "C" __attribute__((weak)) int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, size_t), void (*on_free)(const volatile void*));
extern "C" __attribute__((weak)) size_t __sanitizer_get_allocated_size(const volatile void* memory);

namespace tflite_smart {
namespace fuzz {

// While one exists, memory is counted that is allocated and freed. The threads' scratch, which outlives a model, does not count.
class AllocationWatch {
 public:
  AllocationWatch() : AllocationWatch(true) {
    static const bool installed = __sanitizer_install_malloc_and_free_hooks != nullptr && __sanitizer_install_malloc_and_free_hooks(OnMalloc, OnFree) > 0;
    (void)installed;
  }
  ~AllocationWatch() { counts_ = before_; }
  AllocationWatch(const AllocationWatch&) = delete;
  AllocationWatch& operator=(const AllocationWatch&) = delete;

  static void Reset() { live_ = most_ = 0; }
  static long most_bytes() { return most_; }  // since then

  // Inside of a watch: what the runtime around the code allocates.
  static AllocationWatch Pause() { return AllocationWatch(false); }

 private:
  explicit AllocationWatch(bool counts) : before_(counts_.exchange(counts)) {}

  static void OnMalloc(const volatile void*, size_t bytes) {
    if (!counts_ || bytes == sizeof(Scratch)) return;
    const long now = live_ += static_cast<long>(bytes);
    if (now > most_) most_ = now;
  }
  static void OnFree(const volatile void* memory) {
    if (counts_ && memory != nullptr) live_ -= static_cast<long>(__sanitizer_get_allocated_size(memory));
  }

  const bool before_;
  static inline std::atomic<bool> counts_{false};
  static inline std::atomic<long> live_{0}, most_{0};
};

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_ALLOCATIONS_H_
