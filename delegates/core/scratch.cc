#include "core/scratch.h"

#include <cstdlib>
#include <cstring>

namespace tflite_smart {

ScratchPool::~ScratchPool() {
  for (const Free& free : free_) std::free(free.scratch);
}

Scratch* ScratchPool::Take() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!free_.empty()) {
      size_t own = free_.size() - 1;
      while (own > 0 && !pthread_equal(free_[own].last_user, pthread_self())) --own;
      Scratch* const scratch = free_[own].scratch;
      free_[own] = free_.back();
      free_.pop_back();
      return scratch;
    }
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, alignof(Scratch), sizeof(Scratch)) != 0) return nullptr;
  // A GEMM tile with fewer rows than its kernel reads rows that nobody packed. The rest is left untouched, so that the pages that a
  // model's layers never need are never mapped.
  Scratch* scratch = static_cast<Scratch*>(memory);
  std::memset(scratch->rows, 0, sizeof(scratch->rows));
  std::memset(scratch->inputs, 0, sizeof(scratch->inputs));
  return scratch;
}

void ScratchPool::GiveBack(Scratch* scratch) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back({scratch, pthread_self()});
}

}  // namespace tflite_smart
