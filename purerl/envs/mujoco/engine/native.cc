// MuJoCo's C physics as two pure functions inside an XLA program: `step` and `reset`.
//
// Per simulation of a plan (native_plan.h) they exchange
//
//   row      the mjSTATE_INTEGRATION state, float64, seen by XLA as pairs of uint32
//   tracked  the tracked fields after the last step, float64, likewise
//   packed   float32: the fields, the change of each tracked field over this call, `diverged`
//
// The library is linked to nothing: MuJoCo's symbols resolve against the library that Python has loaded.

#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <pthread.h>

#include <mujoco/mujoco.h>

#include "native_batch.h"
#include "native_plan.h"
#include "xla/ffi/api/ffi.h"

namespace {

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

}  // namespace

// Registers a plan; returns its packed size, or -1 with an error. `fields` and `tracked` are
// comma-separated.
extern "C" int PurerlRegister(int64_t id, const mjModel* model, int frame_skip, int num_threads,
                              int keyframe, const char* fields, const char* tracked, char* error,
                              int error_size) {
  auto plan = std::make_unique<Plan>();  // all zero
  int fields_size = ParseFields(model, fields, &plan->fields, error, error_size);
  int tracked_size = ParseFields(model, tracked, &plan->tracked, error, error_size);
  if (fields_size < 0 || tracked_size < 0) return -1;
  std::lock_guard<std::mutex> lock(plans_mutex);
  static bool listening = false;  // once: a handler installed later may call this one
  if (!listening) {
    previous_warning_handler = std::exchange(mju_user_warning, OnWarning);
    pthread_atfork(LockAll, UnlockAll, UnlockAll);
  }
  listening = true;
  int packed_size = plan->packed_size = fields_size + tracked_size + 1;
  if (plans.count(id)) return packed_size;
  plan->model = mj_copyModel(nullptr, model);
  plan->frame_skip = frame_skip;
  plan->num_threads = num_threads;
  plan->keyframe = keyframe;
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
