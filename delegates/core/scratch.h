// The working memory of one task: the same few hundred kilobytes whatever the layer, kept and used again.
#ifndef TFLITE_SMART_CORE_SCRATCH_H_
#define TFLITE_SMART_CORE_SCRATCH_H_

#include <pthread.h>

#include <mutex>
#include <vector>

#include "kernels/float_kernels.h"

namespace tflite_smart {

static_assert(kWinogradTiles <= kMaxGemmRows, "a GEMM tile may read that many rows");

// Decoded panels that are multiplied together, at most: eight full pieces, 288 KB, so that they stay in a second-level cache.
constexpr uint32_t kBatchFloats = 8 * kMaxChunk * 32;
constexpr uint32_t kMaxBatchPanels = 64;
constexpr uint32_t kMaxTaps = 2048;

struct alignas(64) Scratch {
  float panels[kBatchFloats];
  float rows[kMaxGemmRows * kPackedRowStride];  // packed A
  int8_t ids[4][kMaxChunk * 32];
  const float* taps[kMaxTaps];
  // Only layers that run conv2d_winograd.cc touch these; it keeps the transformed filters in `panels`.
  int8_t window_ids[2][9 * kWinogradMaxChannels * 32];
  float inputs[16 * kWinogradTiles * kWinogradPiece];
  float products[16 * kWinogradTiles * 32];
  uint8_t rest[1 << 18];  // nor these, but integer layers: kernels/int8_parts.h
};

// Safe to share between threads. A thread gets the scratch that it had before, if nobody else has it: that one is in the cache of its core.
class ScratchPool {
 public:
  ScratchPool() = default;
  ~ScratchPool();
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;

  // Returns its Scratch when it goes out of scope.
  class Lease {
   public:
    explicit Lease(ScratchPool* pool) : pool_(pool), scratch_(pool->Take()) {}
    ~Lease() {
      if (scratch_ != nullptr) pool_->GiveBack(scratch_);
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    Scratch* get() const { return scratch_; }  // null if there is no memory
    Scratch* operator->() const { return scratch_; }

   private:
    ScratchPool* const pool_;
    Scratch* const scratch_;
  };

 private:
  struct Free {
    Scratch* scratch;
    pthread_t last_user;
  };

  Scratch* Take();
  void GiveBack(Scratch* scratch);

  std::mutex mutex_;
  std::vector<Free> free_;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_SCRATCH_H_
