// The part of TensorFlow Lite's C ABI that a delegate needs, declared by ourselves.
//
// READ FIRST
// * No package that this project can install ships TFLite's headers. What follows are the same structures in the same order,
//   under short names in a namespace of our own, so that both can be included side by side. TFLite calls this layout
//   "semi-stable": members are only ever added at the end. Checked with LiteRT 2.3 and TensorFlow 2.21.
// * A structure is declared up to the last member that we touch, except where its size matters: Tensor and Node lie in arrays,
//   Registration is passed by value.
// * The static_asserts pin the layout for 64-bit and 32-bit machines. CheckContext() in op_adapter.cc looks at run time whether
//   the interpreter in front of us really has it.
#ifndef TFLITE_SMART_DOORS_TFLITE_ABI_H_
#define TFLITE_SMART_DOORS_TFLITE_ABI_H_

#include <cstddef>
#include <cstdint>

namespace tflite_smart {
namespace tfl {

enum Status : int { kOk = 0, kError = 1, kDelegateError = 2 };

enum Type : int { kNoType = 0, kFloat32 = 1, kInt32 = 2, kUInt8 = 3, kInt64 = 4, kInt8 = 9, kFloat16 = 10 };

enum AllocationType : int { kMemNone = 0, kMmapRo = 1, kArenaRw = 2, kArenaRwPersistent = 3, kDynamic = 4, kPersistentRo = 5, kCustom = 6 };

constexpr int kOptionalTensor = -1;
constexpr int kBuiltinCustom = 32;  // builtin_code of every custom op
constexpr int64_t kDelegateAllowsDynamicTensors = 1;

struct Context;
struct Delegate;
struct DelegateParams;

// `size` ints follow. ResizeTensor takes one that malloc() made and frees it.
struct IntArray {
  int size;
  int data[1];
};

struct Tensor {
  Type type;
  union {
    void* raw;
    float* f;
    const int32_t* i32;
    const int64_t* i64;
    int8_t* i8;
    const uint8_t* u8;
  } data;
  IntArray* dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  AllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  Delegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void* params;
  } quantization;
  void* sparsity;
  const IntArray* dims_signature;
};

struct Node {
  IntArray* inputs;
  IntArray* outputs;
  IntArray* intermediates;
  IntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  Delegate* delegate;
  bool might_have_side_effect;
};

struct Registration {
  void* (*init)(Context* context, const char* buffer, size_t length);
  void (*free)(Context* context, void* buffer);
  Status (*prepare)(Context* context, Node* node);
  Status (*invoke)(Context* context, Node* node);
  const char* (*profiling_string)(const Context* context, const Node* node);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
#if UINTPTR_MAX > 0xffffffff
  // A later TFLite may append members, and copies its own, larger structure from our argument. On 64-bit machines a structure of this
  // size is passed in memory apart from the other arguments, so that being longer than the callee expects harms nothing and
  // keeps it from reading what lies behind. (32-bit ARM lays the next arguments directly behind it.)
  void* reserved[8];
#endif
};

struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context* context, IntArray** execution_plan);
  Tensor* tensors;
  void* impl;
  Status (*ResizeTensor)(Context* context, Tensor* tensor, IntArray* new_size);
  void (*ReportError)(Context* context, const char* format, ...);
  Status (*AddTensors)(Context* context, int tensors_to_add, int* first_new_tensor_index);
  Status (*GetNodeAndRegistration)(Context* context, int node_index, Node** node, Registration** registration);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context* context, Registration registration, const IntArray* nodes,
                                                  Delegate* delegate);
  int recommended_num_threads;
  void* unused_before[2];  // of which we call none
  bool allow_fp32_relax_to_fp16;
  void* unused[6];
  // What ReplaceNodeSubsetsWithDelegateKernels would make of the nodes; `partitions` lives until the next call.
  Status (*PreviewDelegatePartitioning)(Context* context, const IntArray* nodes, DelegateParams** partitions, int* count);
};

// What init() of a delegate's kernel gets as its `buffer`.
struct DelegateParams {
  Delegate* delegate;
  IntArray* nodes_to_replace;
  IntArray* input_tensors;
  IntArray* output_tensors;
};

struct Delegate {
  void* data;
  Status (*Prepare)(Context* context, Delegate* delegate);
  Status (*CopyFromBufferHandle)(Context* context, Delegate* delegate, int buffer_handle, Tensor* tensor);
  Status (*CopyToBufferHandle)(Context* context, Delegate* delegate, int buffer_handle, Tensor* tensor);
  void (*FreeBufferHandle)(Context* context, Delegate* delegate, int* handle);
  int64_t flags;
  void* opaque_delegate_builder;
};

// What init() returns to make ModifyGraphWithDelegate fail.
inline void* InitFailed() { return reinterpret_cast<void*>(static_cast<intptr_t>(-1)); }

// `wide` on 64-bit machines, `narrow` on 32-bit ones.
constexpr size_t Layout(size_t wide, size_t narrow) { return sizeof(void*) == 8 ? wide : narrow; }

static_assert(offsetof(IntArray, data) == 4, "");
static_assert(offsetof(Tensor, data) == Layout(8, 4), "");
static_assert(offsetof(Tensor, dims) == Layout(16, 8), "");
static_assert(offsetof(Tensor, allocation_type) == Layout(32, 20), "");
static_assert(offsetof(Tensor, bytes) == Layout(40, 24), "");
static_assert(offsetof(Tensor, name) == Layout(56, 32), "");
static_assert(offsetof(Tensor, data_is_stale) == Layout(76, 44), "");
static_assert(offsetof(Tensor, quantization) == Layout(80, 48), "");
static_assert(offsetof(Tensor, dims_signature) == Layout(104, 60), "");
static_assert(sizeof(Tensor) == Layout(112, 64), "");
static_assert(offsetof(Node, user_data) == Layout(32, 16), "");
static_assert(offsetof(Node, custom_initial_data) == Layout(48, 24), "");
static_assert(offsetof(Node, custom_initial_data_size) == Layout(56, 28), "");
static_assert(sizeof(Node) == Layout(80, 40), "");
static_assert(offsetof(Registration, builtin_code) == Layout(40, 20), "");
static_assert(offsetof(Registration, custom_name) == Layout(48, 24), "");
static_assert(offsetof(Registration, version) == Layout(56, 28), "");
static_assert(offsetof(Registration, inplace_operator) == Layout(80, 40), "");
static_assert(offsetof(Context, tensors) == Layout(16, 8), "");
static_assert(offsetof(Context, ReportError) == Layout(40, 20), "");
static_assert(offsetof(Context, ReplaceNodeSubsetsWithDelegateKernels) == Layout(64, 32), "");
static_assert(offsetof(Context, recommended_num_threads) == Layout(72, 36), "");
static_assert(offsetof(Context, PreviewDelegatePartitioning) == Layout(152, 76), "");
static_assert(sizeof(DelegateParams) == Layout(32, 16), "");
static_assert(offsetof(Delegate, Prepare) == Layout(8, 4), "");
static_assert(sizeof(Delegate) >= Layout(56, 32), "");

}  // namespace tfl
}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_TFLITE_ABI_H_
