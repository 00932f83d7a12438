// What all layers of one delegate share.
#ifndef TFLITE_SMART_CORE_RUNTIME_H_
#define TFLITE_SMART_CORE_RUNTIME_H_

#include "core/scratch.h"
#include "core/thread_pool.h"

namespace tflite_smart {

struct Runtime {
  explicit Runtime(int num_threads) : threads(num_threads) {}

  ThreadPool threads;
  ScratchPool scratch;
};

inline Status NoScratch() {
  return MakeError(Code::kOutOfMemory, "scratch: %zu bytes must be free for every thread. Received: none. Close something.",
                   sizeof(Scratch));
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_RUNTIME_H_
