// What all layers of one delegate share.
#ifndef TFLITE_SMART_CORE_RUNTIME_H_
#define TFLITE_SMART_CORE_RUNTIME_H_

#include "core/scratch.h"
#include "core/thread_pool.h"

namespace tflite_smart {

// The arithmetic of layers with float activations. kAuto: what the layer's operator asks for.
enum class Compute { kAuto, kF32, kInt8 };

struct Runtime {
  explicit Runtime(int num_threads, Compute wanted = Compute::kAuto) : compute(wanted), threads(num_threads) {}

  const Compute compute;
  ThreadPool threads;
  ScratchPool scratch;
};

inline Status NoScratch() {
  return MakeError(Code::kOutOfMemory, "scratch: %zu bytes must be free for every thread. Received: none. Close something.",
                   sizeof(Scratch));
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_RUNTIME_H_
