// Many simulations of one plan, on the threads of XLA. Included by native.cc alone.

#ifndef PURERL_NATIVE_BATCH_H_
#define PURERL_NATIVE_BATCH_H_

#include <algorithm>
#include <atomic>
#include <deque>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <mujoco/mjbatch.h>
#include <mujoco/mujoco.h>

#include "native_plan.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// ---------------------------------------------------------------------------------------- batches

// Idle batches, the latest used last. A call takes one per thread and gives them back, so a batch never
// belongs to two calls.
struct Idle {
  const Plan* plan;
  int n;
  mjBatch* batch;
};
constexpr size_t kMaxIdle = 64;
std::mutex idle_mutex;
std::deque<Idle> idle;

mjBatch* TakeBatch(const Plan& plan, int n, char* error, int error_size) {
  {
    std::lock_guard<std::mutex> lock(idle_mutex);
    for (auto it = idle.rbegin(); it != idle.rend(); ++it) {
      if (it->plan != &plan || it->n != n) continue;
      mjBatch* batch = it->batch;
      idle.erase(std::next(it).base());
      return batch;
    }
  }
  mjBatchConfig config;
  mjb_defaultConfig(&config);
  config.nthread = 1;
  return mjb_makeBatch(plan.model, n, &config, error, error_size);
}

void GiveBatch(const Plan& plan, int n, mjBatch* batch) {
  Idle evicted{nullptr, 0, nullptr};
  {
    std::lock_guard<std::mutex> lock(idle_mutex);
    idle.push_back({&plan, n, batch});
    if (idle.size() > kMaxIdle) {
      evicted = idle.front();
      idle.pop_front();
    }
  }
  if (evicted.batch) mjb_deleteBatch(evicted.batch);
}

// A fork takes all locks first: a lock held by another thread would stay locked in the child.
void LockAll() {
  plans_mutex.lock();
  idle_mutex.lock();
}

void UnlockAll() {
  idle_mutex.unlock();
  plans_mutex.unlock();
}

// ---------------------------------------------------------------------------------------- threads

// Simulations of one call, which threads take a few at a time. The calling thread takes them until none is
// left and then waits for the helpers that have started: a helper that never starts, because XLA's pool is
// busy or a fork lost its threads, delays nothing. A second pool beside XLA's would compete for the CPUs.
struct Work {
  Call call;
  mjfBatchFunc function;
  int n;                 // simulations in a batch
  std::vector<int> ids;  // those to run
  size_t chunk;
  std::atomic<size_t> next{0};
  std::atomic<int> at_work{0};  // helpers
  std::mutex mutex;             // of `closed` and `error`
  bool closed = false;
  std::string error;
};

void Run(Work& work) {
  const Plan& plan = *work.call.plan;
  char error[256] = "";
  mjBatch* batch = TakeBatch(plan, work.n, error, sizeof(error));
  if (!batch) {
    std::lock_guard<std::mutex> lock(work.mutex);
    work.error = error;
    return;
  }
  for (size_t first; (first = work.next.fetch_add(work.chunk)) < work.ids.size();) {
    int count = std::min(work.chunk, work.ids.size() - first);
    mjb_apply(batch, work.ids.data() + first, count, work.function, &work.call, /*save=*/0);
  }
  in_engine = false;  // the thread returns to XLA
  GiveBatch(plan, work.n, batch);
}

void Help(Work& work) {
  {
    std::lock_guard<std::mutex> lock(work.mutex);
    if (work.closed) return;
    work.at_work++;
  }
  Run(work);
  work.at_work--;
}

ffi::Error Apply(ffi::ThreadPool& pool, const Call& call, mjfBatchFunc function, int n,
                 std::vector<int> ids) {
  if (ids.empty()) return ffi::Error::Success();
  auto work = std::make_shared<Work>();
  work->call = call;
  work->function = function;
  work->n = n;
  work->ids = std::move(ids);
  size_t num_threads = std::min<size_t>(call.plan->num_threads, pool.num_threads());
  num_threads = std::min(num_threads, work->ids.size() / 2);  // waking a thread costs a small step
  num_threads = std::max<size_t>(num_threads, 1);
  work->chunk = std::max<size_t>(1, work->ids.size() / (64 * num_threads));
  for (size_t helper = 1; helper < num_threads; helper++) {
    pool.Schedule([work] { Help(*work); });
  }
  Run(*work);
  {
    std::lock_guard<std::mutex> lock(work->mutex);
    work->closed = true;
  }
  while (work->at_work > 0) std::this_thread::yield();  // shorter than a wake-up
  if (work->next < work->ids.size()) {
    return ffi::Error::Internal("MuJoCo cannot make a batch: " + work->error);
  }
  return ffi::Error::Success();
}

}  // namespace

#endif  // PURERL_NATIVE_BATCH_H_
