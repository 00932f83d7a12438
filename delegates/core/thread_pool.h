// A small pool of threads: started with the first job that can use them, asleep between jobs.
//
// The calling thread works too, so a pool of one thread creates none. A pool may be shared by interpreters that run at the same time:
// the one that comes second does its job alone instead of waiting for the first.
#ifndef TFLITE_SMART_CORE_THREAD_POOL_H_
#define TFLITE_SMART_CORE_THREAD_POOL_H_

#include <pthread.h>

#include <atomic>
#include <cstddef>
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
  // after it no further task begins.
  template <typename Task>
  Status ParallelFor(size_t num_tasks, const Task& task) {
    return Run(num_tasks, [](const void* context, size_t i) { return (*static_cast<const Task*>(context))(i); }, &task);
  }

 private:
  using Function = Status (*)(const void* context, size_t i);

  struct Job {
    Function function;
    const void* context;
    size_t num_tasks;
    std::atomic<size_t> next{0};
    std::mutex error_mutex;
    Status error;
  };

  Status Run(size_t num_tasks, Function function, const void* context);
  static void Work(Job* job);
  bool StartThreads();
  static void* ThreadMain(void* pool);
  void WaitAndWork();

  const int num_threads_;
  std::mutex caller_mutex_;  // held by the caller whose job the threads do

  std::mutex mutex_;  // guards what follows
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;  // not std::condition_variable, whose code is in the C++ library: see standard_library.cc
  pthread_cond_t done_ = PTHREAD_COND_INITIALIZER;
  std::vector<pthread_t> threads_;
  Job* job_ = nullptr;
  std::atomic<int> working_{0};  // threads inside job_; changed under the mutex
  bool stop_ = false;
  std::atomic<unsigned> generation_{0};  // counts jobs; read without the mutex while a thread spins
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_THREAD_POOL_H_
