// The thread pool under the thread sanitizer: callers that share a pool, jobs of every size, jobs that fail, pools that come and go. Prints nothing; the exit code says it.
//   g++ -std=c++17 -fsanitize=thread -Idelegates delegates/fuzz/threads.cc delegates/core/thread_pool.cc -pthread
#include <cstdlib>
#include <thread>
#include <vector>

#include "core/thread_pool.h"

using tflite_smart::Code;
using tflite_smart::MakeError;
using tflite_smart::Status;
using tflite_smart::ThreadPool;

namespace {

void Check(bool good) {
  if (!good) std::abort();
}

// Plain memory, written by whoever runs the task: a race between tasks, or with the caller afterwards, is seen.
void RunJobs(ThreadPool* pool, unsigned seed) {
  for (int job = 0; job < 300; ++job) {
    seed = seed * 1664525 + 1013904223;
    const size_t tasks = seed >> 16 & 63;
    const size_t failing = (seed >> 24) % 4 == 0 ? tasks / 2 : tasks;
    std::vector<int> done(tasks, 0);
    const Status status = pool->ParallelFor(tasks, [&](size_t i) {
      ++done[i];
      return i == failing ? MakeError(Code::kCorrupt, "task %zu must fail.", i) : Status();
    });
    Check(status.ok() == (failing == tasks));
    for (size_t i = 0; i < tasks; ++i) Check(done[i] == 1 || (done[i] == 0 && !status.ok()));
  }
}

}  // namespace

int main() {
  for (int round = 0; round < 8; ++round) {
    ThreadPool pool(1 + round % 4);
    std::vector<std::thread> callers;
    for (unsigned i = 0; i < 3; ++i) callers.emplace_back(RunJobs, &pool, 7u * static_cast<unsigned>(round) + i);
    for (std::thread& caller : callers) caller.join();
  }
  return 0;
}
