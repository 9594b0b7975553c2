// MuJoCo's C physics as two pure functions inside an XLA program: `step` and `reset`.
//
// A *plan* says which model, how many substeps, and which mjData fields a task wants to see. Python
// registers it under a hash of its content; the program carries only this hash, so that a compiled
// program is the same in every process. Per simulation the functions exchange
//
//   row      the mjSTATE_INTEGRATION state, float64, seen by XLA as pairs of uint32
//   tracked  the tracked fields after the last step, float64, likewise
//   packed   float32: the fields, the change of each tracked field over this call, `diverged`
//
// Linked to nothing: MuJoCo's symbols resolve against the library that Python has loaded.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <mujoco/mjbatch.h>
#include <mujoco/mjxmacro.h>
#include <mujoco/mujoco.h>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

static_assert(sizeof(mjtNum) == 8, "the engine hands float64 state to XLA");

// ------------------------------------------------------------------------------------------ plans

struct Field {
  size_t offset;  // of its pointer in mjData
  int size;
};

struct Plan {
  mjModel* model;
  int frame_skip;
  int num_threads;
  bool body_forces;  // does anybody look at cacc, cfrc_int or cfrc_ext?
  std::vector<Field> fields, tracked;
  int row_size, tracked_size, packed_size;
};

// A process makes a handful of plans (half a megabyte each) and keeps them: programs refer to them.
std::mutex plans_mutex;
std::map<int64_t, std::unique_ptr<const Plan>> plans;

const Plan* FindPlan(int64_t id) {
  std::lock_guard<std::mutex> lock(plans_mutex);
  auto found = plans.find(id);
  return found == plans.end() ? nullptr : found->second.get();
}

bool FindField(const mjModel* m, const std::string& name, Field* field) {
#define X(type, member, rows, columns)                                        \
  if (std::is_same<type, mjtNum>::value && name == #member) {                 \
    *field = {offsetof(mjData, member), static_cast<int>(m->rows) * columns}; \
    return true;                                                              \
  }
#define XNV X
  MJDATA_POINTERS
#undef XNV
#undef X
  return false;
}

const mjtNum* Values(const mjData* d, const Field& field) {
  return *reinterpret_cast<mjtNum* const*>(reinterpret_cast<const char*>(d) + field.offset);
}

// Appends the fields of a comma-separated list and returns their total size, or -1 with an error.
int ParseFields(const mjModel* m, const char* names, std::vector<Field>* fields, char* error,
                int error_size) {
  int total = 0;
  std::stringstream stream(names);
  for (std::string name; std::getline(stream, name, ',');) {
    Field field;
    if (!FindField(m, name, &field)) {
      std::snprintf(error, error_size, "mjData has no array of numbers named '%s'", name.c_str());
      return -1;
    }
    fields->push_back(field);
    total += field.size;
  }
  return total;
}

// --------------------------------------------------------------------------------------- warnings

// Divergence is reported to the program, so MuJoCo need not also print and write MUJOCO_LOG.TXT.
// Warnings from anybody else's simulations in this process go where they always went.
thread_local bool in_engine = false;
void (*others_warning)(const char*) = nullptr;

void OnWarning(const char* message) {
  if (in_engine) return;
  if (others_warning) return others_warning(message);
  mju_writeLog("WARNING", message);
  std::printf("WARNING: %s\n\n", message);
}

// ---------------------------------------------------------------------------------- one simulation

struct Call {
  const Plan* plan;
  const mjtNum* row;      // step: [n, row_size]
  const mjtNum* tracked;  // step: [n, tracked_size]
  const float* ctrl;      // step: [n, nu]
  const float* qpos;      // reset: [n, nq]
  const float* qvel;      // reset: [n, nv]
  mjtNum* next_row;
  mjtNum* next_tracked;
  float* packed;
};

void WriteBlank(const Call& call, size_t sim, bool diverged) {
  const Plan& plan = *call.plan;
  std::memset(call.next_row + sim * plan.row_size, 0, sizeof(mjtNum) * plan.row_size);
  std::memset(call.next_tracked + sim * plan.tracked_size, 0, sizeof(mjtNum) * plan.tracked_size);
  std::memset(call.packed + sim * plan.packed_size, 0, sizeof(float) * plan.packed_size);
  call.packed[(sim + 1) * plan.packed_size - 1] = diverged;
}

// MuJoCo checks qpos, qvel and qacc only as the *next* substep begins; what leaves is checked here,
// so that no infinity ever reaches a normaliser or a replay buffer.
float Checked(mjtNum value, bool* diverged) {
  if (!mju_isBad(value)) return static_cast<float>(value);
  *diverged = true;
  return 0;
}

// `previous`: the tracked fields before this call; null after a reset, where nothing has changed.
void Write(const Call& call, size_t sim, const mjData* d, const mjtNum* previous) {
  const Plan& plan = *call.plan;
  bool diverged = false;
  for (int w : {mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC, mjWARN_BADCTRL}) {
    diverged |= d->warning[w].number > 0;
  }
  mj_getState(plan.model, d, call.next_row + sim * plan.row_size, mjSTATE_INTEGRATION);
  float* out = call.packed + sim * plan.packed_size;
  for (const Field& field : plan.fields) {
    const mjtNum* values = Values(d, field);
    for (int i = 0; i < field.size; i++) *out++ = Checked(values[i], &diverged);
  }
  mjtNum* tracked = call.next_tracked + sim * plan.tracked_size;
  for (const Field& field : plan.tracked) {
    const mjtNum* values = Values(d, field);
    std::memcpy(tracked, values, sizeof(mjtNum) * field.size);
    tracked += field.size;
    for (int i = 0; i < field.size; i++) {
      // Subtracted in float64: a velocity stays exact however far from the origin the robot is.
      *out++ = previous ? Checked(values[i] - *previous++, &diverged) : 0;
    }
  }
  *out = diverged;
}

void StepOne(const mjModel* m, mjData* d, int sim, void* arg) {
  const Call& call = *static_cast<const Call*>(arg);
  const Plan& plan = *call.plan;
  in_engine = true;
  WriteBlank(call, sim, true);  // stands if mju_error leaves this function by a longjmp
  mj_setState(m, d, call.row + static_cast<size_t>(sim) * plan.row_size, mjSTATE_INTEGRATION);
  const float* ctrl = call.ctrl + static_cast<size_t>(sim) * m->nu;
  for (int i = 0; i < m->nu; i++) d->ctrl[i] = ctrl[i];
  std::memset(d->warning, 0, sizeof(d->warning));
  for (int i = 0; i < plan.frame_skip; i++) mj_step(m, d);
  if (plan.body_forces) mj_rnePostConstraint(m, d);  // after the steps, as Gymnasium does
  Write(call, sim, d, call.tracked + static_cast<size_t>(sim) * plan.tracked_size);
}

void ResetOne(const mjModel* m, mjData* d, int sim, void* arg) {
  const Call& call = *static_cast<const Call*>(arg);
  in_engine = true;
  WriteBlank(call, sim, true);
  mj_resetData(m, d);
  const float* qpos = call.qpos + static_cast<size_t>(sim) * m->nq;
  const float* qvel = call.qvel + static_cast<size_t>(sim) * m->nv;
  for (int i = 0; i < m->nq; i++) d->qpos[i] = qpos[i];
  for (int i = 0; i < m->nv; i++) d->qvel[i] = qvel[i];
  mj_forward(m, d);  // no mj_rnePostConstraint: contact forces are 0 in a reset, as in Gymnasium
  Write(call, sim, d, nullptr);
}

// ---------------------------------------------------------------------------------------- batches

// Idle batches, the latest used last; each runs on the thread that holds it. A call takes as many as
// it has threads and gives them back, so no two ever share one.
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

// A fork waits until nobody holds a lock, lest the child find one that its holder cannot give back.
void LockAll() {
  plans_mutex.lock();
  idle_mutex.lock();
}

void UnlockAll() {
  idle_mutex.unlock();
  plans_mutex.unlock();
}

// ---------------------------------------------------------------------------------------- threads

// Simulations of one call, which whoever has time takes a few at a time. The caller takes until none
// is left and then waits only for those who are at work: threads of XLA's pool that never came, since
// they are busy or since a fork left them behind, hold nothing up. A pool of our own beside XLA's
// would fight it for the processors.
struct Work {
  Call call;
  mjfBatchFunc function;
  int n;                 // simulations in a batch
  std::vector<int> ids;  // those to run
  size_t chunk;
  std::atomic<size_t> next{0};
  std::atomic<int> at_work{0};  // helpers
  std::mutex mutex;             // of what follows
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
  in_engine = false;  // the thread goes back to its owner
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
  while (work->at_work > 0) std::this_thread::yield();  // for less than it takes to be woken
  if (work->next < work->ids.size()) {
    return ffi::Error::Internal("MuJoCo cannot make a batch: " + work->error);
  }
  return ffi::Error::Success();
}

// --------------------------------------------------------------------------------------- handlers

ffi::Error UnknownPlan() {
  return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                    "this program's MuJoCo environment is not registered in this process: make the "
                    "environment before running the program");
}

template <typename Buffer>
std::string SizeError(const char* name, Buffer& buffer, size_t n, int size) {
  if (buffer.element_count() != n * size) {
    return std::string(name) + " has " + std::to_string(buffer.element_count()) +
           " elements, expected " + std::to_string(n) + " x " + std::to_string(size) + "; ";
  }
  bool aligned = reinterpret_cast<uintptr_t>(buffer.untyped_data()) % alignof(mjtNum) == 0;
  return aligned || buffer.element_count() == 0 ? "" : std::string(name) + " is not aligned; ";
}

using U32 = ffi::Buffer<ffi::U32>;
using F32 = ffi::Buffer<ffi::F32>;
using Pred = ffi::Buffer<ffi::PRED>;
using ResultU32 = ffi::ResultBuffer<ffi::U32>;
using ResultF32 = ffi::ResultBuffer<ffi::F32>;

std::string ResultErrors(const Plan& plan, size_t n, ResultU32& row, ResultU32& tracked,
                         ResultF32& packed) {
  return SizeError("the new row", *row, n, 2 * plan.row_size) +
         SizeError("the new tracked", *tracked, n, 2 * plan.tracked_size) +
         SizeError("packed", *packed, n, plan.packed_size);
}

ffi::Error Step(ffi::ThreadPool pool, int64_t id, U32 row, U32 tracked, F32 ctrl, ResultU32 next_row,
                ResultU32 next_tracked, ResultF32 packed) {
  const Plan* plan = FindPlan(id);
  if (!plan) return UnknownPlan();
  size_t n = packed->element_count() / plan->packed_size;
  std::string errors = SizeError("row", row, n, 2 * plan->row_size) +
                       SizeError("tracked", tracked, n, 2 * plan->tracked_size) +
                       SizeError("ctrl", ctrl, n, plan->model->nu) +
                       ResultErrors(*plan, n, next_row, next_tracked, packed);
  if (!errors.empty()) return ffi::Error::InvalidArgument("MuJoCo step: " + errors);
  Call call{};
  call.plan = plan;
  call.row = static_cast<const mjtNum*>(row.untyped_data());
  call.tracked = static_cast<const mjtNum*>(tracked.untyped_data());
  call.ctrl = ctrl.typed_data();
  call.next_row = static_cast<mjtNum*>(next_row->untyped_data());
  call.next_tracked = static_cast<mjtNum*>(next_tracked->untyped_data());
  call.packed = packed->typed_data();
  std::vector<int> all(n);
  std::iota(all.begin(), all.end(), 0);
  return Apply(pool, call, StepOne, n, std::move(all));
}

ffi::Error Reset(ffi::ThreadPool pool, int64_t id, Pred needed, F32 qpos, F32 qvel, ResultU32 next_row,
                 ResultU32 next_tracked, ResultF32 packed) {
  const Plan* plan = FindPlan(id);
  if (!plan) return UnknownPlan();
  size_t n = packed->element_count() / plan->packed_size;
  std::string errors = SizeError("qpos", qpos, n, plan->model->nq) +
                       SizeError("qvel", qvel, n, plan->model->nv) +
                       ResultErrors(*plan, n, next_row, next_tracked, packed);
  if (needed.element_count() != n) errors += "needed must have one element per simulation; ";
  if (!errors.empty()) return ffi::Error::InvalidArgument("MuJoCo reset: " + errors);
  Call call{};
  call.plan = plan;
  call.qpos = qpos.typed_data();
  call.qvel = qvel.typed_data();
  call.next_row = static_cast<mjtNum*>(next_row->untyped_data());
  call.next_tracked = static_cast<mjtNum*>(next_tracked->untyped_data());
  call.packed = packed->typed_data();
  std::vector<int> ids;
  for (size_t sim = 0; sim < n; sim++) {
    if (needed.typed_data()[sim]) {
      ids.push_back(sim);
    } else {
      WriteBlank(call, sim, false);
    }
  }
  return Apply(pool, call, ResetOne, n, std::move(ids));
}

// Zeros in whole pages that take no memory until they are written: the kernel takes back what the
// result lies in, and gives a page of zeros where one is touched. What it does not take is filled.
ffi::Error Zeros(ffi::Result<ffi::AnyBuffer> result) {
  char* begin = static_cast<char*>(result->untyped_data());
  char* end = begin + result->size_bytes();
#ifdef __linux__
  uintptr_t page = sysconf(_SC_PAGESIZE);
  char* first = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(begin) + page - 1) & ~(page - 1));
  char* last = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(end) & ~(page - 1));
  if (first < last && madvise(first, last - first, MADV_DONTNEED) == 0) {
    std::memset(begin, 0, first - begin);
    begin = last;
  }
#endif
  std::memset(begin, 0, end - begin);
  return ffi::Error::Success();
}

}  // namespace

// Registers a plan; returns its packed size, or -1 with an error. `fields` and `tracked` are
// comma-separated.
extern "C" int PurerlRegister(int64_t id, const mjModel* model, int frame_skip, int num_threads,
                              const char* fields, const char* tracked, char* error,
                              int error_size) {
  auto plan = std::make_unique<Plan>();  // all zero
  int fields_size = ParseFields(model, fields, &plan->fields, error, error_size);
  int tracked_size = ParseFields(model, tracked, &plan->tracked, error, error_size);
  if (fields_size < 0 || tracked_size < 0) return -1;
  std::lock_guard<std::mutex> lock(plans_mutex);
  static bool listening = false;  // once: whoever comes after us may hand on to us
  if (!listening) {
    others_warning = std::exchange(mju_user_warning, OnWarning);
    pthread_atfork(LockAll, UnlockAll, UnlockAll);
  }
  listening = true;
  int packed_size = plan->packed_size = fields_size + tracked_size + 1;
  if (plans.count(id)) return packed_size;
  plan->model = mj_copyModel(nullptr, model);
  plan->frame_skip = frame_skip;
  plan->num_threads = num_threads;
  std::string seen = std::string(",") + fields + "," + tracked + ",";
  for (const char* name : {",cacc,", ",cfrc_int,", ",cfrc_ext,"}) {
    plan->body_forces |= seen.find(name) != std::string::npos;
  }
  plan->row_size = mj_stateSize(model, mjSTATE_INTEGRATION);
  plan->tracked_size = tracked_size;
  plans[id] = std::move(plan);
  return packed_size;
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(PurerlStep, Step,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<int64_t>("plan")
                                  .Arg<U32>().Arg<U32>().Arg<F32>()
                                  .Ret<U32>().Ret<U32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(PurerlReset, Reset,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<int64_t>("plan")
                                  .Arg<Pred>().Arg<F32>().Arg<F32>()
                                  .Ret<U32>().Ret<U32>().Ret<F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(PurerlZeros, Zeros, ffi::Ffi::Bind().Ret<ffi::AnyBuffer>());
