// A plan, and one simulation of it. Included by native.cc alone.
//
// A *plan* is a model, its number of substeps, and the mjData fields that a task reads. Python registers
// it under a hash of its content; the program carries this hash, so that a compiled program is the same in
// every process.

#ifndef PURERL_NATIVE_PLAN_H_
#define PURERL_NATIVE_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include <mujoco/mjxmacro.h>
#include <mujoco/mujoco.h>

namespace {

static_assert(sizeof(mjtNum) == 8, "the engine hands float64 state to XLA");

// ------------------------------------------------------------------------------------------ plans

struct Field {
  size_t offset;  // in mjData, of its pointer or of the number itself
  int size;
  bool is_number;
};

struct Plan {
  mjModel* model;
  int frame_skip;
  int num_threads;
  int keyframe;      // at which resets begin; -1: the model's own initial state
  bool body_forces;  // cacc, cfrc_int or cfrc_ext are among the fields
  std::vector<Field> fields, tracked;
  int row_size, tracked_size, packed_size;
};

// A process makes a handful of plans (half a megabyte each) and keeps them, since programs refer to them.
std::mutex plans_mutex;
std::map<int64_t, std::unique_ptr<const Plan>> plans;

const Plan* FindPlan(int64_t id) {
  std::lock_guard<std::mutex> lock(plans_mutex);
  auto found = plans.find(id);
  return found == plans.end() ? nullptr : found->second.get();
}

bool FindField(const mjModel* m, const std::string& name, Field* field) {
  if (name == "time") {
    *field = {offsetof(mjData, time), 1, true};
    return true;
  }
#define X(type, member, rows, columns)                                               \
  if (std::is_same<type, mjtNum>::value && name == #member) {                        \
    *field = {offsetof(mjData, member), static_cast<int>(m->rows) * columns, false}; \
    return true;                                                                     \
  }
#define XNV X
  MJDATA_POINTERS
#undef XNV
#undef X
  return false;
}

const mjtNum* Values(const mjData* d, const Field& field) {
  const char* place = reinterpret_cast<const char*>(d) + field.offset;
  if (field.is_number) return reinterpret_cast<const mjtNum*>(place);
  return *reinterpret_cast<mjtNum* const*>(place);
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

// Divergence is reported to the program, so MuJoCo need not also print it and write MUJOCO_LOG.TXT.
// Warnings of other simulations in this process go to the handler that was there before.
thread_local bool in_engine = false;
void (*previous_warning_handler)(const char*) = nullptr;

void OnWarning(const char* message) {
  if (in_engine) return;
  if (previous_warning_handler) return previous_warning_handler(message);
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

// MuJoCo checks qpos, qvel and qacc only as the *next* substep begins; results are checked here, so that
// no infinity reaches a normalizer or a replay buffer.
float Checked(mjtNum value, bool* diverged) {
  if (!mju_isBad(value)) return static_cast<float>(value);
  *diverged = true;
  return 0;
}

// Write row, tracked and packed of one simulation. `previous` is tracked before this call, null in a reset.
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
      // Subtracted in float64, so that velocities are exact far from the origin too.
      *out++ = previous ? Checked(values[i] - *previous++, &diverged) : 0;
    }
  }
  *out = diverged;
}

void StepOne(const mjModel* m, mjData* d, int sim, void* arg) {
  const Call& call = *static_cast<const Call*>(arg);
  const Plan& plan = *call.plan;
  in_engine = true;
  WriteBlank(call, sim, true);  // remains if mju_error leaves this function by a longjmp
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
  mj_resetDataKeyframe(m, d, call.plan->keyframe);  // as mj_resetData for -1
  const float* qpos = call.qpos + static_cast<size_t>(sim) * m->nq;
  const float* qvel = call.qvel + static_cast<size_t>(sim) * m->nv;
  for (int i = 0; i < m->nq; i++) d->qpos[i] = qpos[i];
  for (int i = 0; i < m->nv; i++) d->qvel[i] = qvel[i];
  mj_forward(m, d);  // no mj_rnePostConstraint: contact forces are 0 in a reset, as in Gymnasium
  Write(call, sim, d, nullptr);
}

}  // namespace

#endif  // PURERL_NATIVE_PLAN_H_
