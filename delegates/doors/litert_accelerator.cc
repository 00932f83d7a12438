// The door into LiteRT's CompiledModel: the delegate of external_delegate.cc as an accelerator of a LiteRT environment.
//
// READ FIRST
// * CompiledModel loads no external delegates. It does have custom op kernels (LiteRtAddCustomOpKernelOption), but they can't carry these
//   ops: all nodes of one name share a single user_data, a kernel is not told which node it is asked about, and its errors are ignored.
//   An accelerator brings a whole delegate, which knows its nodes, and whose errors stop the compilation.
// * Nothing of LiteRT is linked: its C functions are looked up by name, so the library loads where there is no LiteRT too. The signatures
//   below are those of litert/c/internal/litert_accelerator_registration.h and litert_delegate_wrapper.h, version 2.3.
// * The accelerator says that it does no compilation itself: LiteRT then applies it whatever hardware is asked for.
#include <dlfcn.h>

#include <cstdio>
#include <memory>
#include <new>

#include "core/status.h"
#include "tflite_smart.h"

namespace tflite_smart {
namespace {

// LiteRT's types, as far as they cross the interface.
using LiteRtStatus = int;
constexpr LiteRtStatus kLiteRtOk = 0, kLiteRtRuntimeFailure = 3;
constexpr int kHardwareCpu = 1;
struct LiteRtVersion {
  int major, minor, patch;
};
struct Accelerator {
  void* data;  // first member of LiteRtAcceleratorT: what LiteRtRegisterAccelerator was given
};

using CreateDelegate = LiteRtStatus (*)(void* runtime, void* environment, const Accelerator* accelerator, void* options, void** wrapper);

struct LiteRt {
  LiteRtStatus (*create_accelerator)(void** accelerator);
  LiteRtStatus (*destroy_accelerator)(void* accelerator);
  LiteRtStatus (*set_name)(void* accelerator, LiteRtStatus (*)(const void*, const char**));
  LiteRtStatus (*set_version)(void* accelerator, LiteRtStatus (*)(const void*, LiteRtVersion*));
  LiteRtStatus (*set_hardware)(void* accelerator, LiteRtStatus (*)(const void*, int*));
  LiteRtStatus (*set_delegate)(void* accelerator, CreateDelegate);
  LiteRtStatus (*set_compiles)(void* accelerator, LiteRtStatus (*)(const void*, bool*));
  LiteRtStatus (*register_accelerator)(void* environment, void* accelerator, void* data, void (*release)(void*));
  LiteRtStatus (*wrap)(TfLiteDelegate* delegate, void (*deleter)(TfLiteDelegate*), void** wrapper);
};

// What the accelerator keeps for its delegates.
struct Data {
  LiteRt litert;
  int num_threads;
};

template <typename Function>
bool Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

// The first name that is missing, or null.
const char* FindAll(void* library, LiteRt* api) {
  if (!Find(library, "LiteRtCreateAccelerator", &api->create_accelerator)) return "LiteRtCreateAccelerator";
  if (!Find(library, "LiteRtDestroyAccelerator", &api->destroy_accelerator)) return "LiteRtDestroyAccelerator";
  if (!Find(library, "LiteRtSetAcceleratorGetName", &api->set_name)) return "LiteRtSetAcceleratorGetName";
  if (!Find(library, "LiteRtSetAcceleratorGetVersion", &api->set_version)) return "LiteRtSetAcceleratorGetVersion";
  if (!Find(library, "LiteRtSetAcceleratorGetHardwareSupport", &api->set_hardware)) return "LiteRtSetAcceleratorGetHardwareSupport";
  if (!Find(library, "LiteRtSetDelegateFunction", &api->set_delegate)) return "LiteRtSetDelegateFunction";
  if (!Find(library, "LiteRtSetIsAcceleratorDelegateResponsibleForJitCompilation", &api->set_compiles)) {
    return "LiteRtSetIsAcceleratorDelegateResponsibleForJitCompilation";
  }
  if (!Find(library, "LiteRtRegisterAccelerator", &api->register_accelerator)) return "LiteRtRegisterAccelerator";
  if (!Find(library, "LiteRtWrapDelegate", &api->wrap)) return "LiteRtWrapDelegate";
  return nullptr;
}

LiteRtStatus Name(const void*, const char** name) {
  *name = "TFLite Smart";
  return kLiteRtOk;
}

LiteRtStatus Version(const void*, LiteRtVersion* version) {
  *version = {1, 0, 0};
  return kLiteRtOk;
}

LiteRtStatus Hardware(const void*, int* hardware) {
  *hardware = kHardwareCpu;
  return kLiteRtOk;
}

LiteRtStatus Compiles(const void*, bool* compiles) {
  *compiles = false;
  return kLiteRtOk;
}

LiteRtStatus MakeDelegate(void*, void*, const Accelerator* accelerator, void*, void** wrapper) {
  const Data& data = *static_cast<const Data*>(accelerator->data);
  char number[16];
  std::snprintf(number, sizeof(number), "%d", data.num_threads);
  const char *key = "num_threads", *value = number;
  TfLiteDelegate* delegate = tflite_plugin_create_delegate(&key, &value, data.num_threads > 0 ? 1 : 0, nullptr);
  if (delegate == nullptr) return kLiteRtRuntimeFailure;
  return data.litert.wrap(delegate, tflite_plugin_destroy_delegate, wrapper);
}

Status Register(void* environment, void* library, int num_threads) {
  if (environment == nullptr || num_threads < 0 || num_threads > 256) {
    return MakeError(Code::kInvalidArgument, "environment must not be null and num_threads 0..256. Received: num_threads=%d.", num_threads);
  }
  std::unique_ptr<Data> data(new (std::nothrow) Data);
  if (data == nullptr) return MakeError(Code::kOutOfMemory, "accelerator: no memory.");
  data->num_threads = num_threads;
  const char* missing = FindAll(library == nullptr ? RTLD_DEFAULT : library, &data->litert);
  if (missing != nullptr) {
    return MakeError(Code::kUnsupported, "LiteRT library: it must have %s, as version 2.3 has. Received: none. Pass the handle of libLiteRt.so.", missing);
  }
  const LiteRt& api = data->litert;
  void* accelerator = nullptr;
  if (api.create_accelerator(&accelerator) != kLiteRtOk) return MakeError(Code::kOutOfMemory, "accelerator: LiteRT could not make one.");
  const LiteRtStatus set = api.set_name(accelerator, Name) | api.set_version(accelerator, Version) | api.set_hardware(accelerator, Hardware) |
                           api.set_delegate(accelerator, MakeDelegate) | api.set_compiles(accelerator, Compiles);
  if (set != kLiteRtOk) {
    api.destroy_accelerator(accelerator);
    return MakeError(Code::kUnsupported, "accelerator: LiteRT must accept its functions. Received: status %d.", set);
  }
  // Owns both from here on, even where it refuses.
  const auto register_accelerator = api.register_accelerator;
  const LiteRtStatus status = register_accelerator(environment, accelerator, data.release(), [](void* d) { delete static_cast<Data*>(d); });
  if (status != kLiteRtOk) return MakeError(Code::kUnsupported, "accelerator: LiteRT must accept it. Received: status %d.", status);
  return Status();
}

}  // namespace
}  // namespace tflite_smart

extern "C" TFS_EXPORT int32_t tfs_litert_register(void* environment, void* litert, int32_t num_threads, tfs_error* error) {
  const tflite_smart::Status status = tflite_smart::Register(environment, litert, num_threads);
  if (!status.ok() && error != nullptr) std::snprintf(error->message, sizeof(error->message), "%s", status.message);
  return static_cast<int32_t>(status.code);
}
