#include "core/thread_pool.h"

#include <sched.h>

#include <new>

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

Status ThreadPool::RunAlone(size_t num_tasks, Function function, const void* context) {
  for (size_t i = 0; i < num_tasks; ++i) TFS_RETURN_IF_ERROR(function(context, i));
  return Status();
}

Status ThreadPool::Run(size_t num_tasks, Function function, const void* context) {
  if (num_threads_ == 1 || num_tasks < 2) return RunAlone(num_tasks, function, context);
  std::unique_lock<std::mutex> caller(caller_mutex_, std::try_to_lock);
  if (!caller.owns_lock() || !StartThreads()) return RunAlone(num_tasks, function, context);
  Job job;
  job.function = function;
  job.context = context;
  Deal(num_tasks);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    generation_.fetch_add(1, std::memory_order_release);
  }
  pthread_cond_broadcast(&wake_);
  Work(&job, 0);
  // Only threads that have begun are waited for: after a fork() there are none, and the caller has done it all.
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = nullptr;
  }
  Spin([this] { return working_.load(std::memory_order_acquire) == 0; });
  std::lock_guard<std::mutex> lock(mutex_);
  while (working_.load(std::memory_order_relaxed) != 0) pthread_cond_wait(&done_, mutex_.native_handle());
  return job.error;
}

// Nobody works while the shares are dealt: Run() has waited for all.
void ThreadPool::Deal(size_t num_tasks) {
  const size_t threads = static_cast<size_t>(num_threads_);
  for (size_t t = 0; t < threads; ++t) {
    const size_t first = num_tasks * t / threads, end = num_tasks * (t + 1) / threads;
    shares_[t].first.store(first, std::memory_order_relaxed);
    shares_[t].end.store(end, std::memory_order_relaxed);
    shares_[t].left.store(end - first, std::memory_order_relaxed);
  }
}

// Whoever has lowered `left` may take one task, from either side.
bool ThreadPool::Share::Claim() {
  size_t now = left.load(std::memory_order_relaxed);
  while (now != 0 && !left.compare_exchange_weak(now, now - 1, std::memory_order_relaxed)) {
  }
  return now != 0;
}

void ThreadPool::Work(Job* job, size_t thread) {
  const size_t threads = static_cast<size_t>(num_threads_);
  for (size_t i = 0; i < threads; ++i) {
    Share& share = shares_[(thread + i) % threads];
    while (!job->failed.load(std::memory_order_relaxed) && share.Claim()) {
      const size_t task = i == 0 ? share.first.fetch_add(1, std::memory_order_relaxed) : share.end.fetch_sub(1, std::memory_order_relaxed) - 1;
      const Status status = job->function(job->context, task);
      if (status.ok()) continue;
      std::lock_guard<std::mutex> lock(job->error_mutex);
      if (job->error.ok()) job->error = status;
      job->failed.store(true, std::memory_order_relaxed);
    }
  }
}

// False if the system gives no thread at all; fewer than asked for are good enough.
bool ThreadPool::StartThreads() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!threads_.empty()) return true;
  if (shares_ == nullptr) shares_.reset(new (std::nothrow) Share[static_cast<size_t>(num_threads_)]);
  if (shares_ == nullptr) return false;
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
  const size_t thread = next_thread_.fetch_add(1, std::memory_order_relaxed);
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
    Work(job, thread);
    lock.lock();
    if (working_.fetch_sub(1, std::memory_order_release) == 1) pthread_cond_signal(&done_);
  }
}

}  // namespace tflite_smart
