// The external-delegate door: what LiteRT and TensorFlow load with load_delegate("libtflite_smart_delegate.so", options).
//
// READ FIRST
// * We claim the custom ops TFLiteSmart.*, and what lies between them of the builtin ones in glue_ops.h. The runtime makes partitions of
//   these, and we a segment of each (segment.h). The rest still goes to XNNPACK, which the interpreter applies after us.
// * An Expand is claimed on its own: its output is for others and large, and should live as shortly as can be.
// * The claimed nodes keep running when shapes change (kDelegateAllowsDynamicTensors); otherwise a resized input would take
//   the delegate away and leave custom ops that nobody knows.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "doors/glue_ops.h"
#include "doors/op.h"
#include "doors/segment.h"
#include "doors/tflite_abi.h"
#include "kernels/isa.h"
#include "tflite_smart.h"

namespace tflite_smart {
namespace {

constexpr int kMaxThreads = 256;
constexpr long kMaxCacheBytes = 1l << 30;
constexpr char kKnownOptions[] =
    "num_threads (1..256), cache_bytes (0..2^30), compute (auto, f32, int8), isa (scalar, avx2, avx512, amx, neon, neondot)";

struct DelegateData {
  tfl::Delegate delegate = {};
  int num_threads = 0;  // 0: what the interpreter recommends
  Compute compute = Compute::kAuto;
  long cache_bytes = kDefaultCacheBytes;  // 0: all weights stay packed
  std::mutex mutex;
  std::unique_ptr<Runtime> runtime;  // made by the first interpreter that uses the delegate
};

void* KernelInit(tfl::Context* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const tfl::DelegateParams*>(buffer);
  auto* data = static_cast<DelegateData*>(params->delegate->data);
  std::unique_ptr<Segment> segment(new (std::nothrow) Segment);
  if (segment == nullptr || segment->Init(context, *params, data->runtime.get()) != tfl::kOk) return tfl::InitFailed();
  return segment.release();
}

void KernelFree(tfl::Context*, void* segment) { delete static_cast<Segment*>(segment); }

tfl::Status KernelPrepare(tfl::Context* context, tfl::Node* node) { return static_cast<Segment*>(node->user_data)->Prepare(context, node); }

tfl::Status KernelInvoke(tfl::Context* context, tfl::Node* node) { return static_cast<Segment*>(node->user_data)->Invoke(context); }

// Whether the interpreter in front of us looks like the structures of tflite_abi.h. Op::OpenWeight() looks at the tensors.
bool CheckContext(tfl::Context* context) {
  constexpr size_t kMaxTensors = size_t{1} << 26;
  return context != nullptr && context->impl != nullptr && context->GetExecutionPlan != nullptr && context->ResizeTensor != nullptr &&
         context->ReportError != nullptr && context->GetNodeAndRegistration != nullptr &&
         context->ReplaceNodeSubsetsWithDelegateKernels != nullptr && context->PreviewDelegatePartitioning != nullptr &&
         context->tensors_size < kMaxTensors &&
         (context->tensors_size == 0 || context->tensors != nullptr) && context->recommended_num_threads >= -1 &&
         context->recommended_num_threads < (1 << 20);
}

// Nodes of the graph, as the runtime wants them.
class NodeList {
 public:
  void Add(int node) {
    data_.push_back(node);
    data_[0] = static_cast<int>(data_.size()) - 1;
  }
  void Add(const tfl::IntArray& nodes) {
    for (int i = 0; i < nodes.size; ++i) Add(nodes.data[i]);
  }
  bool empty() const { return data_[0] == 0; }
  const tfl::IntArray* get() const { return reinterpret_cast<const tfl::IntArray*>(data_.data()); }

 private:
  std::vector<int> data_ = {0};  // the size, then the nodes
};

bool HasOurs(tfl::Context* context, const tfl::IntArray& nodes) {
  GraphNode node;
  for (int i = 0; i < nodes.size; ++i) {
    if (node.Read(context, nodes.data[i]) && node.IsOurs()) return true;
  }
  return false;
}

// Marks what the node writes; the tensor that another node has written already, or -1.
int MarkOutputs(const tfl::IntArray* outputs, std::vector<char>* written) {
  int twice = -1;
  for (int i = 0; outputs != nullptr && i < outputs->size; ++i) {
    const int tensor = outputs->data[i];
    if (tensor < 0 || static_cast<size_t>(tensor) >= written->size()) continue;
    if ((*written)[static_cast<size_t>(tensor)] != 0) twice = tensor;
    (*written)[static_cast<size_t>(tensor)] = 1;
  }
  return twice;
}

// What may become segments, and the Expands. An error for a TFLiteSmart op that this library doesn't know, and for a graph that holds one in which
// two nodes write one tensor: the runtime makes it as large as one of them says, and the other writes beyond its end.
tfl::Status FindNodes(tfl::Context* context, NodeList* nodes, std::vector<int>* expands) {
  tfl::IntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != tfl::kOk || plan == nullptr) return tfl::kError;
  std::vector<char> written(context->tensors_size);
  int twice = -1;
  for (int i = 0; i < plan->size; ++i) {
    GraphNode node;
    const int index = plan->data[i];
    if (!node.Read(context, index)) return tfl::kError;
    const int again = MarkOutputs(node.node->outputs, &written);
    twice = again >= 0 ? again : twice;
    // No look at the version: the runtime says 1 for every custom op it doesn't know itself. An op that changes gets another name.
    if (node.IsOurs() && MakeOp(node.registration->custom_name) == nullptr) {
      context->ReportError(context, "TFLite Smart delegate: op must be one of %s. Received: %s. Install a newer tflite_smart.", OpNames(),
                           node.registration->custom_name);
      return tfl::kError;
    }
    if (node.IsOurs("Expand")) {
      expands->push_back(index);
    } else if (node.IsOurs() || IsGlue(*context, node)) {
      nodes->Add(index);
    }
  }
  if (twice < 0 || (expands->empty() && !HasOurs(context, *nodes->get()))) return tfl::kOk;
  context->ReportError(context, "TFLite Smart delegate: tensor %d must be written by one node. Received: two. The file is damaged: convert the model again.",
                       twice);
  return tfl::kError;
}

// Leaves out partitions without an op of ours: XNNPACK may have them.
tfl::Status KeepOurPartitions(tfl::Context* context, NodeList* nodes) {
  tfl::DelegateParams* partitions = nullptr;
  int count = 0;
  if (context->PreviewDelegatePartitioning(context, nodes->get(), &partitions, &count) != tfl::kOk) return tfl::kError;
  NodeList kept;
  for (int i = 0; i < count; ++i) {
    if (HasOurs(context, *partitions[i].nodes_to_replace)) kept.Add(*partitions[i].nodes_to_replace);
  }
  *nodes = kept;
  return tfl::kOk;
}

void MakeRuntime(DelegateData* data, int recommended_num_threads) {
  std::lock_guard<std::mutex> lock(data->mutex);
  if (data->runtime != nullptr) return;
  int num_threads = data->num_threads > 0 ? data->num_threads : recommended_num_threads;
  if (num_threads > kMaxThreads) num_threads = kMaxThreads;
  data->runtime.reset(new (std::nothrow) Runtime(num_threads, data->compute));
  if (data->runtime != nullptr) data->runtime->cache_bytes = static_cast<uint64_t>(data->cache_bytes);
}

tfl::Status DelegatePrepare(tfl::Context* context, tfl::Delegate* delegate) {
  if (!CheckContext(context)) return tfl::kDelegateError;  // not even ReportError can be trusted
  auto* data = static_cast<DelegateData*>(delegate->data);
  MakeRuntime(data, context->recommended_num_threads);
  if (data->runtime == nullptr) return tfl::kError;

  // Found before anything is replaced: the plan changes under us with every claimed node.
  NodeList nodes;
  std::vector<int> expands;
  if (FindNodes(context, &nodes, &expands) != tfl::kOk || KeepOurPartitions(context, &nodes) != tfl::kOk) return tfl::kError;
  tfl::Registration registration = {};
  registration.init = KernelInit;
  registration.free = KernelFree;
  registration.prepare = KernelPrepare;
  registration.invoke = KernelInvoke;
  registration.custom_name = "TFLiteSmartDelegate";
  registration.version = 1;
  tfl::Status status = nodes.empty() ? tfl::kOk : context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, nodes.get(), delegate);
  for (size_t i = 0; i < expands.size() && status == tfl::kOk; ++i) {
    NodeList alone;
    alone.Add(expands[i]);
    status = context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, alone.get(), delegate);
  }
  return status;
}

bool ReadNumber(const char* value, long min, long max, long* number) {
  char* end = nullptr;
  *number = std::strtol(value, &end, 10);
  return end != value && *end == '\0' && *number >= min && *number <= max;
}

// False if the pair is not understood.
bool SetOption(const char* key, const char* value, DelegateData* data) {
  long number;
  if (std::strcmp(key, "num_threads") == 0) {
    if (!ReadNumber(value, 1, kMaxThreads, &number)) return false;
    data->num_threads = static_cast<int>(number);
    return true;
  }
  if (std::strcmp(key, "compute") == 0) {
    if (std::strcmp(value, "auto") == 0) data->compute = Compute::kAuto;
    else if (std::strcmp(value, "f32") == 0) data->compute = Compute::kF32;
    else if (std::strcmp(value, "int8") == 0) data->compute = Compute::kInt8;
    else return false;
    return true;
  }
  if (std::strcmp(key, "cache_bytes") == 0) return ReadNumber(value, 0, kMaxCacheBytes, &data->cache_bytes);
  // For tests and benchmarks. Holds for the whole process.
  if (std::strcmp(key, "isa") == 0) return ForceIsa(value);
  return false;
}

}  // namespace
}  // namespace tflite_smart

extern "C" {

TFS_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t num_options,
                                                         void (*report_error)(const char*)) {
  using tflite_smart::DelegateData;
  std::unique_ptr<DelegateData> data(new (std::nothrow) DelegateData);
  if (data == nullptr) return nullptr;
  for (size_t i = 0; i < num_options; ++i) {
    const char* key = keys[i] == nullptr ? "" : keys[i];
    const char* value = values[i] == nullptr ? "" : values[i];
    if (tflite_smart::SetOption(key, value, data.get())) continue;
    const tflite_smart::Status error = tflite_smart::MakeError(
        tflite_smart::Code::kInvalidArgument, "TFLite Smart delegate: options must be %s, this machine's. Received: %s=%s.",
        tflite_smart::kKnownOptions, key, value);
    if (report_error != nullptr) {
      report_error(error.message);
    } else {
      std::fprintf(stderr, "%s\n", error.message);
    }
    return nullptr;
  }
  data->delegate.data = data.get();
  data->delegate.Prepare = tflite_smart::DelegatePrepare;
  data->delegate.flags = tflite_smart::tfl::kDelegateAllowsDynamicTensors;
  return reinterpret_cast<TfLiteDelegate*>(&data.release()->delegate);
}

TFS_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<tflite_smart::DelegateData*>(reinterpret_cast<tflite_smart::tfl::Delegate*>(delegate)->data);
}

}  // extern "C"
