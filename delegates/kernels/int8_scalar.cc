// gemm_int8_4x8_scalar: what every target can do, with the compiler's own four-lane vectors.
#include "kernels/int8_kernels.h"

namespace tflite_smart {
namespace {

struct Vec {
  static constexpr int kLanes = 4, kGemmRows = 4, kBlockVecs = 2, kLanePositions = 1;
  typedef int32_t Four __attribute__((vector_size(16)));
  Four v;

  static Vec Zero() { return {Four{0, 0, 0, 0}}; }
  static Vec Load(const void* p) {
    Vec y;
    __builtin_memcpy(&y.v, p, sizeof(y.v));
    return y;
  }
  void Store(int32_t* p) const { __builtin_memcpy(p, &v, sizeof(v)); }
};

constexpr uint32_t kGroup = 2;
constexpr int32_t kOffset = 0;
constexpr bool kHalfBlocks = false;

inline Vec Broadcast(const void* dword) {
  int32_t x;
  __builtin_memcpy(&x, dword, sizeof(x));
  return {Vec::Four{x, x, x, x}};
}

inline Vec Add(Vec a, Vec b) { return {a.v + b.v}; }

// A lane is two int16. The products of int8 values are far from an overflow.
inline Vec Dot(Vec sum, Vec a, Vec b) {
  return {sum.v + ((a.v << 16) >> 16) * ((b.v << 16) >> 16) + (a.v >> 16) * (b.v >> 16)};
}
inline Vec DotPair(Vec sum, Vec a, Vec b) { return Dot(sum, a, b); }

struct Requantizer {
  const int32_t *multiplier, *shift;

  static bool Takes(const Int8Epilogue& e) { return e.factors->small && !e.factors->real; }

  void Load(const Int8Epilogue& e, int channel) {
    multiplier = e.factors->multiplier + channel;
    shift = e.factors->shift + channel;
  }

  Vec Run(Vec x) const {
    for (int i = 0; i < Vec::kLanes; ++i) {
      const int64_t high = (static_cast<int64_t>(x.v[i]) * multiplier[i] + (int64_t{1} << 30)) >> 31;
      x.v[i] = static_cast<int32_t>((high + (int64_t{1} << (-shift[i] - 1)) - (high < 0 ? 1 : 0)) >> -shift[i]);
    }
    return x;
  }

  bool doubts() const { return false; }
};

struct ByteWriter {
  int32_t zero_point, min, max;

  explicit ByteWriter(const Int8Epilogue& e)
      : zero_point(e.zero_point), min(e.min), max(e.max) {}

  void Write(const Vec (&y)[Vec::kBlockVecs], int8_t* to) const {
    for (int i = 0; i < Vec::kBlockVecs * Vec::kLanes; ++i) {
      const int32_t x = y[i / Vec::kLanes].v[i % Vec::kLanes] + zero_point;
      to[i] = static_cast<int8_t>(x < min ? min : x > max ? max : x);
    }
  }
};

struct FloatWriter {
  const FloatEpilogue* e;
  const Quantization* row;
  int first;

  void Load(const FloatEpilogue& epilogue, int channel) {
    e = &epilogue;
    first = channel;
  }

  void SetRow(const Quantization& q) { row = &q; }

  void Write(Vec sum, float* to) const {
    for (int i = 0; i < Vec::kLanes; ++i) {
      const uint32_t zero = static_cast<uint32_t>(row->zero_point) * static_cast<uint32_t>(e->ids[first + i]);  // wraps, as the sums do
      const float x = static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(sum.v[i]) - zero));
      const float y = x * (row->scale * e->scale[first + i]) + e->bias[first + i];
      to[i] = y < e->min ? e->min : y > e->max ? e->max : y;
    }
  }
};

inline int32_t TwoWords(int8_t a0, int8_t a1) {
  return static_cast<int32_t>(static_cast<uint16_t>(a0) | static_cast<uint32_t>(static_cast<uint16_t>(a1)) << 16);
}

struct Pair {
  Vec parts[Vec::kBlockVecs];

  static Pair Load(const int8_t* a0, const int8_t* a1) {
    Pair pair;
    for (int i = 0; i < Vec::kBlockVecs * Vec::kLanes; ++i) pair.parts[i / Vec::kLanes].v[i % Vec::kLanes] = TwoWords(a0[i], a1[i]);
    return pair;
  }
  Vec Part(int i) const { return parts[i]; }
};

void Pack(const int8_t* from, size_t count, uint8_t* to) {
  for (size_t i = 0; i < count; ++i) {
    const int16_t x = from[i];
    __builtin_memcpy(to + 2 * i, &x, sizeof(x));
  }
}

void Quantize(const float* from, size_t count, const Quantization& q, uint8_t* to) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: a float that much larger has no digits behind the point, so adding it rounds, halves to even
  for (size_t i = 0; i < count; ++i) {
    const float shifted = from[i] * q.inverse + kMagic;
    int32_t bits, zero;
    __builtin_memcpy(&bits, &shifted, sizeof(bits));
    __builtin_memcpy(&zero, &kMagic, sizeof(zero));
    const int32_t x = bits - zero + q.zero_point;
    const int16_t word = static_cast<int16_t>(x < INT8_MIN ? INT8_MIN : x > INT8_MAX ? INT8_MAX : x);
    __builtin_memcpy(to + 2 * i, &word, sizeof(word));
  }
}

#include "kernels/int8_range-inl.h"

void WidenRange(const float* x, size_t count, float* range) { WidenRangeOneByOne(x, count, range); }

inline void LoadDwords(const int8_t* ids, Vec (&b)[Vec::kBlockVecs]) {
  const Pair pair = Pair::Load(ids, ids + 32);
  for (int v = 0; v < Vec::kBlockVecs; ++v) b[v] = pair.Part(v);
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/int8_kernels-inl.h"

TFLITE_SMART_INT8_KERNELS(kInt8Scalar, Vec::kGemmRows, Gemm, nullptr)
