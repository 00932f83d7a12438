#include "core/thread_pool.h"

#include <sched.h>

namespace tflite_smart {
namespace {

// The layers of a model follow each other within microseconds, and waking a sleeping thread costs about fifty of them. So a thread looks
// around for a while before it sleeps: first without letting go of its core, then, some hundred microseconds, after everybody
// else who wants it has had it. XNNPACK's threads run between our layers on the same cores.
constexpr int kPauses = 300;
constexpr int kYields = 300;

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ __volatile__("yield");
#endif
}

// Looks around until `done` or the time is up.
template <typename Done>
void Spin(const Done& done) {
  for (int i = 0; i < kPauses + kYields && !done(); ++i) {
    if (i < kPauses) {
      Pause();
    } else {
      sched_yield();
    }
  }
}

}  // namespace

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_relaxed);
  }
  pthread_cond_broadcast(&wake_);
  for (pthread_t thread : threads_) pthread_join(thread, nullptr);
}

Status ThreadPool::Run(size_t num_tasks, Function function, const void* context) {
  Job job;
  job.function = function;
  job.context = context;
  job.num_tasks = num_tasks;

  std::unique_lock<std::mutex> caller(caller_mutex_, std::defer_lock);
  const bool shared = num_threads_ > 1 && num_tasks > 1 && caller.try_lock() && StartThreads();
  if (shared) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      generation_.fetch_add(1, std::memory_order_release);
    }
    pthread_cond_broadcast(&wake_);
  }
  Work(&job);
  if (shared) {
    // Only threads that have begun are waited for: after a fork() there are none, and the caller has done it all.
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;
    }
    Spin([this] { return working_.load(std::memory_order_acquire) == 0; });
    std::lock_guard<std::mutex> lock(mutex_);
    while (working_.load(std::memory_order_relaxed) != 0) pthread_cond_wait(&done_, mutex_.native_handle());
  }
  return job.error;
}

void ThreadPool::Work(Job* job) {
  for (;;) {
    const size_t i = job->next.fetch_add(1, std::memory_order_relaxed);
    if (i >= job->num_tasks) return;
    const Status status = job->function(job->context, i);
    if (status.ok()) continue;
    std::lock_guard<std::mutex> lock(job->error_mutex);
    if (job->error.ok()) job->error = status;
    job->next.store(job->num_tasks, std::memory_order_relaxed);
  }
}

// False if the system gives no thread at all; fewer than asked for are good enough.
bool ThreadPool::StartThreads() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!threads_.empty()) return true;
  for (int i = 1; i < num_threads_; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, ThreadMain, this) != 0) break;  // std::thread would throw here
    threads_.push_back(thread);
  }
  return !threads_.empty();
}

void* ThreadPool::ThreadMain(void* pool) {
  static_cast<ThreadPool*>(pool)->WaitAndWork();
  return nullptr;
}

void ThreadPool::WaitAndWork() {
  unsigned seen = 0;
  for (;;) {
    Spin([&] { return generation_.load(std::memory_order_acquire) != seen; });
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stop_ && generation_.load(std::memory_order_relaxed) == seen) pthread_cond_wait(&wake_, mutex_.native_handle());
    if (stop_) return;
    seen = generation_.load(std::memory_order_relaxed);
    Job* const job = job_;
    if (job == nullptr) continue;  // already done by the others
    working_.fetch_add(1, std::memory_order_relaxed);
    lock.unlock();
    Work(job);
    lock.lock();
    if (working_.fetch_sub(1, std::memory_order_release) == 1) pthread_cond_signal(&done_);
  }
}

}  // namespace tflite_smart
