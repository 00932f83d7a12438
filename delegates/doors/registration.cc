// The registration door: one TfLiteRegistration for every op, for programs that add custom ops to a resolver of their own.
//
// READ FIRST
// * A registration's init() sees the options but not the node, so the op is opened in the first prepare().
// * All ops share one pool of threads and scratch, which goes away with the last op.
#include <iterator>
#include <memory>
#include <mutex>
#include <new>

#include "doors/kernel.h"
#include "doors/tflite_abi.h"
#include "tflite_smart.h"

namespace tflite_smart {
namespace {

struct Shared {
  std::mutex mutex;
  Runtime* runtime = nullptr;
  int users = 0;
};
Shared shared;

Runtime* AcquireRuntime(int recommended_num_threads) {
  std::lock_guard<std::mutex> lock(shared.mutex);
  if (shared.runtime == nullptr) shared.runtime = new (std::nothrow) Runtime(recommended_num_threads);
  if (shared.runtime != nullptr) ++shared.users;
  return shared.runtime;
}

void ReleaseRuntime() {
  std::lock_guard<std::mutex> lock(shared.mutex);
  if (--shared.users > 0) return;
  delete shared.runtime;
  shared.runtime = nullptr;
}

struct RegisteredKernel : Kernel {
  ~RegisteredKernel() {
    op.reset();  // before what it works with
    if (runtime != nullptr) ReleaseRuntime();
  }
  Runtime* runtime = nullptr;
  bool open = false;
};

constexpr const char* kNames[] = {"TFLiteSmart.Conv2D", "TFLiteSmart.DepthwiseConv2D", "TFLiteSmart.FullyConnected", "TFLiteSmart.Expand",
                                  "TFLiteSmart.Gather"};
constexpr int kNumOps = static_cast<int>(std::size(kNames));

// One function per op: init() is not told which registration it belongs to.
template <int kOp>
void* Init(tfl::Context*, const char*, size_t) {
  std::unique_ptr<RegisteredKernel> kernel(new (std::nothrow) RegisteredKernel);
  if (kernel == nullptr) return nullptr;
  kernel->op_name = kNames[kOp];
  kernel->op = MakeOp(kNames[kOp]);
  return kernel.release();
}

void Free(tfl::Context*, void* kernel) { delete static_cast<RegisteredKernel*>(kernel); }

Status OpenOnce(tfl::Context* context, const tfl::Node& node, RegisteredKernel* kernel) {
  if (kernel->open) return Status();
  kernel->weight_name = WeightName(*context, node);
  if (kernel->runtime == nullptr) kernel->runtime = AcquireRuntime(context->recommended_num_threads);
  if (kernel->runtime == nullptr || kernel->op == nullptr) return NoScratch();
  TFS_RETURN_IF_ERROR(kernel->op->Init(context, node, kernel->runtime));
  kernel->open = true;
  return Status();
}

tfl::Status Prepare(tfl::Context* context, tfl::Node* node) {
  auto* kernel = static_cast<RegisteredKernel*>(node->user_data);
  if (kernel == nullptr) return tfl::kError;
  const Status status = OpenOnce(context, *node, kernel);
  return Report(context, *kernel, status.ok() ? kernel->op->Prepare(context) : status);
}

tfl::Status Invoke(tfl::Context* context, tfl::Node* node) {
  const auto* kernel = static_cast<RegisteredKernel*>(node->user_data);
  return Report(context, *kernel, kernel->op->Run(context));
}

template <int kOp>
tfl::Registration MakeRegistration() {
  tfl::Registration registration = {};
  registration.init = Init<kOp>;
  registration.free = Free;
  registration.prepare = Prepare;
  registration.invoke = Invoke;
  registration.builtin_code = tfl::kBuiltinCustom;
  registration.custom_name = kNames[kOp];
  registration.version = 1;
  return registration;
}

}  // namespace
}  // namespace tflite_smart

extern "C" {

TFS_EXPORT const char* tfs_op_name(int32_t i) { return i >= 0 && i < tflite_smart::kNumOps ? tflite_smart::kNames[i] : nullptr; }

TFS_EXPORT TfLiteRegistration* tfs_op_registration(int32_t i) {
  using tflite_smart::MakeRegistration;
  static tflite_smart::tfl::Registration registrations[tflite_smart::kNumOps] = {MakeRegistration<0>(), MakeRegistration<1>(), MakeRegistration<2>(),
                                                                                  MakeRegistration<3>(), MakeRegistration<4>()};
  return tfs_op_name(i) == nullptr ? nullptr : reinterpret_cast<TfLiteRegistration*>(&registrations[i]);
}

}  // extern "C"
