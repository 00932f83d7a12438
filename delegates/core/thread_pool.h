// A small pool of threads: started with the first job that can use them, asleep between jobs.
//
// READ FIRST
// * The calling thread works too, so a pool of one thread creates none. A pool may be shared by interpreters that run at the same time:
//   the one that comes second does its job alone instead of waiting for the first.
// * Every thread begins with its own share of a job, the t-th part of the tasks in their order, and takes from the ends of the others'
//   shares only when its own is done. Layers number their tasks along the image, so a thread mostly reads what it wrote in the layer
//   before: what lies in another core's cache costs several times the multiplications that are done with it.
// * Layers take microseconds, so between jobs that follow each other nobody takes a lock: the caller opens a job and closes it, threads enter
//   and leave, all by one atomic word. Only who has waited in vain sleeps, under the mutex, and is counted, so that the others know.
#ifndef TFLITE_SMART_CORE_THREAD_POOL_H_
#define TFLITE_SMART_CORE_THREAD_POOL_H_

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/status.h"

namespace tflite_smart {

class ThreadPool {
 public:
  // Counts the calling thread: 1 or less means no thread of its own.
  explicit ThreadPool(int num_threads) : num_threads_(num_threads < 1 ? 1 : num_threads) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls task(i), which returns a Status, once for every i < num_tasks, in any order, and waits. Returns the first error;
  // after it no further task begins. Neighbours in number should be neighbours in memory.
  template <typename Task>
  Status ParallelFor(size_t num_tasks, const Task& task) {
    return Run(num_tasks, [](const void* context, size_t i) { return (*static_cast<const Task*>(context))(i); }, &task);
  }

 private:
  using Function = Status (*)(const void* context, size_t i);

  // The tasks of one thread that nobody has taken yet: it takes the first, others the last.
  struct Share {
    std::atomic<size_t> left{0};
    std::atomic<size_t> first{0};
    std::atomic<size_t> end{0};
    char other_cache_line[64];  // not alignas: a `new` that aligns comes with 100 KB of the C++ library

    bool Claim();
  };

  struct Job {
    Function function;
    const void* context;
    std::atomic<bool> failed{false};
    std::mutex error_mutex;
    Status error;
  };

  // Of the job that is done now, or was last: its number, whether threads may still enter it, and how many are inside.
  using State = uint64_t;
  static constexpr State kOpen = 1, kThread = 2, kNextJob = State{1} << 32;
  static State JobOf(State state) { return state / kNextJob; }
  static State ThreadsIn(State state) { return state % kNextJob / kThread; }

  Status Run(size_t num_tasks, Function function, const void* context);
  static Status RunAlone(size_t num_tasks, Function function, const void* context);
  void Deal(size_t num_tasks);
  void Announce(State flags);
  void Close();
  bool Enter(State* seen);
  void Leave();
  void Work(Job* job, size_t thread);
  bool StartThreads();
  static void* ThreadMain(void* pool);
  void WaitAndWork();

  const int num_threads_;
  std::mutex caller_mutex_;  // held by the caller whose job the threads do
  std::unique_ptr<Share[]> shares_;  // one a thread, the caller's first
  std::vector<pthread_t> threads_;
  std::atomic<size_t> next_thread_{1};  // number of the next one that starts

  Job* job_ = nullptr;  // for those who have entered
  std::atomic<State> state_{0};
  std::atomic<int> sleepers_{0};  // threads that wait for a job
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};

  std::mutex mutex_;  // for sleeping alone
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;  // not std::condition_variable, whose code is in the C++ library: see standard_library.cc
  pthread_cond_t done_ = PTHREAD_COND_INITIALIZER;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_THREAD_POOL_H_
