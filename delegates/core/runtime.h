// What all layers of one delegate share.
#ifndef TFLITE_SMART_CORE_RUNTIME_H_
#define TFLITE_SMART_CORE_RUNTIME_H_

#include <atomic>
#include <cstdint>

#include "core/scratch.h"
#include "core/thread_pool.h"

namespace tflite_smart {

// The arithmetic of layers with float activations. kAuto: what the layer's operator asks for.
enum class Compute { kAuto, kF32, kInt8 };

// As much as a second-level cache holds: beyond, decoding is about as fast as reading.
constexpr uint64_t kDefaultCacheBytes = 1 << 20;

// Number of ids by size of weight: which weights are so small that it takes little memory to decode them once. Two sizes an octave, so that it does
// not matter in what order layers are opened.
class IdsBySize {
 public:
  void Add(uint64_t ids) { of_size_[Size(ids)].fetch_add(ids, std::memory_order_relaxed); }

  // Of all weights that are of the same size as one of so many, or smaller.
  uint64_t UpTo(uint64_t ids) const {
    uint64_t sum = 0;
    for (int size = 0; size <= Size(ids); ++size) sum += of_size_[size].load(std::memory_order_relaxed);
    return sum;
  }

 private:
  static int Size(uint64_t ids) {
    const int octave = 63 - __builtin_clzll(ids | 2);
    return 2 * octave + static_cast<int>(ids >> (octave - 1) & 1);
  }

  std::atomic<uint64_t> of_size_[128] = {};
};

struct Runtime {
  explicit Runtime(int num_threads, Compute wanted = Compute::kAuto) : compute(wanted), threads(num_threads) {}

  const Compute compute;
  ThreadPool threads;
  ScratchPool scratch;
  uint64_t cache_bytes = kDefaultCacheBytes;
  IdsBySize ids;  // of all layers that were ever opened with this

  // Whether a layer with so many decodes its weight once and keeps the ids. The smallest do: they have too few tiles to be decoded side by side, and threads
  // that share their positions decode each for itself. To be asked when all have been opened: before the first inference.
  bool KeepsIds(uint64_t num_ids) const { return ids.UpTo(num_ids) <= cache_bytes; }
};

inline Status NoScratch() {
  return MakeError(Code::kOutOfMemory, "scratch: %zu bytes must be free for every thread. Received: none. Close something.",
                   sizeof(Scratch));
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_RUNTIME_H_
