// gemm_f32_4x8_scalar: what every target can do. The compiler's own four-lane vectors become SSE2 on x86-64 and single floats
// where there are none.
#include <cstdint>

namespace tflite_smart {
namespace {

struct Vec {
  static constexpr int kLanes = 4, kRegisters = 16, kGemmRows = 4, kGemmVecs = 2;
  typedef float Four __attribute__((vector_size(16)));
  Four v;

  static Vec Zero() { return {Four{0.0f, 0.0f, 0.0f, 0.0f}}; }
  static Vec Set(float x) { return {Four{x, x, x, x}}; }
  static Vec Load(const float* p) {
    Vec y;
    __builtin_memcpy(&y.v, p, sizeof(y.v));
    return y;
  }
  static Vec LoadIds(const int8_t* p) {
    return {Four{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])}};
  }
  static Vec LoadFirst(const float* p, uint32_t n) {
    float all[kLanes] = {};
    __builtin_memcpy(all, p, n * sizeof(float));
    return Load(all);
  }
  void Store(float* p) const { __builtin_memcpy(p, &v, sizeof(v)); }
  void StoreFirst(float* p, uint32_t n) const {
    float all[kLanes];
    Store(all);
    __builtin_memcpy(p, all, n * sizeof(float));
  }
};

inline Vec Add(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec Mul(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec MulAdd(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
inline Vec Min(Vec a, Vec b) {
  for (int i = 0; i < Vec::kLanes; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline Vec Max(Vec a, Vec b) {
  for (int i = 0; i < Vec::kLanes; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}

}  // namespace
}  // namespace tflite_smart

#define TFS_SMALL
#include "kernels/float_kernels-inl.h"

TFLITE_SMART_FLOAT_KERNELS(kFloatScalar, MultiplyIds)
