#include "core/thread_pool.h"

#include <new>

namespace tflite_smart {
namespace {

// The layers of a model follow each other within microseconds, and waking a sleeping thread costs about fifty of them. So a thread looks
// around for about as long before it sleeps. It never yields: on a busy core the others would keep it for milliseconds.
constexpr int kPauses = 3000;

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
  for (int i = 0; i < kPauses && !done(); ++i) Pause();
}

}  // namespace

ThreadPool::~ThreadPool() {
  stop_.store(true);
  Announce(0);
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
  job_ = &job;
  Announce(kOpen);
  Work(&job, 0);
  Close();
  return job.error;
}

// Nobody is inside: Close() has waited for all. Here and in Close() both sides write what they have to say before they read what the other says, in
// the one order of all sequentially consistent operations: so either the sleeper sees the state, or who changed it sees the sleeper.
void ThreadPool::Announce(State flags) {
  state_.store((JobOf(state_.load(std::memory_order_relaxed)) + 1) * kNextJob | flags);
  if (sleepers_.load() == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);  // who is about to sleep holds it until it does
  pthread_cond_broadcast(&wake_);
}

// Only threads that have entered are waited for: after a fork() there are none, and the caller has done it all.
void ThreadPool::Close() {
  state_.fetch_sub(kOpen);
  const auto empty = [this] { return ThreadsIn(state_.load()) == 0; };
  Spin(empty);
  if (empty()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  caller_sleeps_.store(true);
  while (!empty()) pthread_cond_wait(&done_, mutex_.native_handle());
  caller_sleeps_.store(false);
}

// True if there is a job other than *seen, which then is that job, and it is still open.
bool ThreadPool::Enter(State* seen) {
  State now = state_.load();
  while (JobOf(now) != *seen && (now & kOpen) != 0) {
    if (!state_.compare_exchange_weak(now, now + kThread)) continue;
    *seen = JobOf(now);
    return true;
  }
  *seen = JobOf(now);
  return false;
}

void ThreadPool::Leave() {
  state_.fetch_sub(kThread);
  if (!caller_sleeps_.load()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  pthread_cond_signal(&done_);
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
  State seen = 0;
  const auto news = [&] { return JobOf(state_.load()) != seen; };
  for (;;) {
    Spin(news);
    if (!news()) {
      std::lock_guard<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1);
      while (!news()) pthread_cond_wait(&wake_, mutex_.native_handle());
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    if (!Enter(&seen)) continue;
    Work(job_, thread);
    Leave();
  }
}

}  // namespace tflite_smart
