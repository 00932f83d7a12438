// What all layers of one delegate share.
#ifndef TFLITE_SMART_CORE_RUNTIME_H_
#define TFLITE_SMART_CORE_RUNTIME_H_

#include <atomic>

#include "core/scratch.h"
#include "core/thread_pool.h"

namespace tflite_smart {

// The arithmetic of layers with float activations. kAuto: what the layer's operator asks for.
enum class Compute { kAuto, kF32, kInt8 };

// As much as a second-level cache holds: beyond, decoding is about as fast as reading.
constexpr uint64_t kDefaultCacheBytes = 1 << 20;

struct Runtime {
  explicit Runtime(int num_threads, Compute wanted = Compute::kAuto) : compute(wanted), threads(num_threads) {}

  const Compute compute;
  ThreadPool threads;
  ScratchPool scratch;
  uint64_t cache_bytes = kDefaultCacheBytes;
  std::atomic<uint64_t> total_ids{0};  // of all layers that were ever opened with this

  // Whether layers decode their weights once and keep the ids. To be asked when all have been opened: before the first inference.
  bool keeps_ids() const { return total_ids.load(std::memory_order_relaxed) <= cache_bytes; }
};

inline Status NoScratch() {
  return MakeError(Code::kOutOfMemory, "scratch: %zu bytes must be free for every thread. Received: none. Close something.",
                   sizeof(Scratch));
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_RUNTIME_H_
