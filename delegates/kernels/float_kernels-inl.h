// The float32 inner loops over a vector type `Vec`, which the including file defines first:
//
//   struct Vec {
//     static constexpr int kLanes, kRegisters, kGemmRows, kGemmVecs;      kGemmRows x kGemmVecs accumulators fit the registers
//     static Vec Zero(); Vec Set(float); Vec Load(const float*); Vec LoadIds(const int8_t*);
//     void Store(float*) const;
//     static Vec LoadFirst(const float*, uint32_t n);  void StoreFirst(float*, uint32_t n) const;      n < kLanes, no more memory is touched
//   };
//   Vec Add(Vec a, Vec b);  Vec Mul(Vec a, Vec b);  Vec MulAdd(Vec a, Vec b, Vec c): a * b + c;  Vec Min(...);  Vec Max(...);
//
// A new instruction set is one file: Vec, this include, TFLITE_SMART_FLOAT_KERNELS(kFloatName). Everything lies in an anonymous namespace, for
// the reason given in isa.h. No include guard on purpose.
#include "kernels/float_kernels.h"

#include <cstring>

// Loops over registers. TFS_SMALL, which the file of an instruction set may define first, asks for little code instead of fast code.
#if defined(TFS_SMALL)
#define TFS_UNROLL
#else
#define TFS_UNROLL _Pragma("GCC unroll 32")
#endif

namespace tflite_smart {
namespace {

constexpr uint32_t kPanel = 32;
constexpr int kLanes = Vec::kLanes;
constexpr int kPanelVecs = kPanel / kLanes;
constexpr int kCacheLine = 16;  // floats

inline Vec Clamp(Vec y, const Epilogue& e) {
  return Min(Vec::Set(e.max), Max(Vec::Set(e.min), y));  // in this order a NaN survives on every machine
}

// The same for a block.
template <int kRows, int kVecs>
inline void Clamp(const Epilogue& e, Vec (&y)[kRows][kVecs]) {
  constexpr float kInfinity = __builtin_inff();
  if (e.min > -kInfinity) {
    const Vec min = Vec::Set(e.min);
TFS_UNROLL
    for (int r = 0; r < kRows; ++r) {
TFS_UNROLL
      for (int v = 0; v < kVecs; ++v) y[r][v] = Max(min, y[r][v]);
    }
  }
  if (e.max < kInfinity) {
    const Vec max = Vec::Set(e.max);
TFS_UNROLL
    for (int r = 0; r < kRows; ++r) {
TFS_UNROLL
      for (int v = 0; v < kVecs; ++v) y[r][v] = Min(max, y[r][v]);
    }
  }
}

// A vector whose first n lanes are wanted. kTail: n may be less than all of them.
template <bool kTail>
inline Vec LoadLanes(const float* p, int n) {
  if (!kTail || n >= kLanes) return Vec::Load(p);
  return n <= 0 ? Vec::Zero() : Vec::LoadFirst(p, static_cast<uint32_t>(n));
}

template <bool kTail>
inline void StoreLanes(Vec y, float* p, int n) {
  if (!kTail || n >= kLanes) return y.Store(p);
  if (n > 0) y.StoreFirst(p, static_cast<uint32_t>(n));
}

// kTail: the tile ends inside the block.
template <bool kTail, int kRows, int kVecs>
inline void StoreBlock(const GemmTile& t, uint32_t column, Vec (&sum)[kRows][kVecs]) {
  const int columns = static_cast<int>(t.end_column - column);
  float no_row[kVecs * kLanes];  // where the rows go that the tile does not have
  float* c[kRows];
TFS_UNROLL
  for (int r = 0; r < kRows; ++r) c[r] = static_cast<uint32_t>(r) < t.rows ? t.c + r * t.c_stride + column : no_row;
  if (t.accumulate) {
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
TFS_UNROLL
      for (int r = 0; r < kRows; ++r) sum[r][v] = Add(sum[r][v], LoadLanes<kTail>(c[r] + v * kLanes, columns - v * kLanes));
    }
  }
  if (t.epilogue != nullptr) {
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      const Vec scale = LoadLanes<kTail>(t.epilogue->scale + column + v * kLanes, columns - v * kLanes);
      const Vec bias = LoadLanes<kTail>(t.epilogue->bias + column + v * kLanes, columns - v * kLanes);
TFS_UNROLL
      for (int r = 0; r < kRows; ++r) sum[r][v] = MulAdd(scale, sum[r][v], bias);
    }
    Clamp(*t.epilogue, sum);
  }
TFS_UNROLL
  for (int r = 0; r < kRows; ++r) {
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) StoreLanes<kTail>(sum[r][v], c[r] + v * kLanes, columns - v * kLanes);
  }
}

// The columns from first to end of a panel's rows, for code that only knows whole panels: copied to where there is room for 32 and back.
struct Part {
  float c[kMaxGemmRows][kPanel];
  float scale[kPanel], bias[kPanel];
  Epilogue epilogue;

  const Epilogue* SetEpilogue(const Epilogue* e, uint32_t first, uint32_t end) {
    if (e == nullptr) return nullptr;
    epilogue = {scale, bias, e->min, e->max};
    std::memcpy(scale + first, e->scale + first, (end - first) * sizeof(float));
    std::memcpy(bias + first, e->bias + first, (end - first) * sizeof(float));
    return &epilogue;
  }
};

// A tile whose block of columns begins too early: a group that begins inside a panel. Begun before the accumulators are live and
// ended when they are stored, so that nothing forces them into memory.
struct PartTile {
  GemmTile tile;  // the whole block, elsewhere
  Part part;
  uint32_t first, end;

  __attribute__((noinline)) void Begin(const GemmTile& t, uint32_t column, uint32_t columns) {
    first = t.first_column > column ? t.first_column : column;
    end = t.end_column < column + columns ? t.end_column : column + columns;
    tile = t;
    tile.c = part.c[0];
    tile.c_stride = kPanel;
    tile.end_column = kPanel;
    tile.epilogue = part.SetEpilogue(t.epilogue, first, end);
    if (!t.accumulate) return;
    for (uint32_t r = 0; r < t.rows; ++r) std::memcpy(part.c[r] + first, t.c + r * t.c_stride + first, Bytes());
  }

  __attribute__((noinline)) void End(const GemmTile& t) const {
    for (uint32_t r = 0; r < t.rows; ++r) std::memcpy(t.c + r * t.c_stride + first, part.c[r] + first, Bytes());
  }

  size_t Bytes() const { return (end - first) * sizeof(float); }
};

// Columns of one vector block: kRows x kVecs accumulators. With few rows k is split over kSplit sets of accumulators, or the latency
// of one addition would be all that is seen.
template <int kRows, int kVecs, int kSplit>
inline void GemmBlock(const GemmTile& t, uint32_t column) {
  const bool whole = t.first_column <= column;
  PartTile part;
  if (!whole) part.Begin(t, column, kVecs * kLanes);
  const GemmTile& target = whole ? t : part.tile;
  Vec sum[kSplit][kRows][kVecs];
TFS_UNROLL
  for (int s = 0; s < kSplit; ++s) {
TFS_UNROLL
    for (int r = 0; r < kRows; ++r) {
TFS_UNROLL
      for (int v = 0; v < kVecs; ++v) sum[s][r][v] = Vec::Zero();
    }
  }
  // A pointer for every third row: the two between are reached by the addressing modes that every machine has.
  const size_t stride = t.a_stride;
  const float* a[(kRows + 2) / 3];
TFS_UNROLL
  for (int i = 0; i < (kRows + 2) / 3; ++i) a[i] = t.a + 3 * i * stride;
  const float* b = t.b + column;
  for (uint32_t r = 0; r < t.rows; ++r) {  // what is written at the end should be there by then
    for (int v = 0; v < kVecs * kLanes; v += kCacheLine) __builtin_prefetch(t.c + r * t.c_stride + column + v, 1);
  }
  for (uint32_t line = 0; line < t.lines; ++line) {
    size_t k = 0;
    for (; k + kSplit <= t.k; k += kSplit) {
TFS_UNROLL
      for (int s = 0; s < kSplit; ++s) {
        Vec w[kVecs];
TFS_UNROLL
        for (int v = 0; v < kVecs; ++v) w[v] = Vec::Load(b + v * kLanes);
TFS_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const Vec x = Vec::Set(a[r / 3][(r % 3) * stride + k + s]);
TFS_UNROLL
          for (int v = 0; v < kVecs; ++v) sum[s][r][v] = MulAdd(x, w[v], sum[s][r][v]);
        }
        b += kPanel;
      }
    }
    for (; kSplit > 1 && k < t.k; ++k) {
TFS_UNROLL
      for (int r = 0; r < kRows; ++r) {
TFS_UNROLL
        for (int v = 0; v < kVecs; ++v) {
          sum[0][r][v] = MulAdd(Vec::Set(a[r / 3][(r % 3) * stride + k]), Vec::Load(b + v * kLanes), sum[0][r][v]);
        }
      }
      b += kPanel;
    }
TFS_UNROLL
    for (int i = 0; i < (kRows + 2) / 3; ++i) a[i] += t.line_stride;
  }
TFS_UNROLL
  for (int s = 1; s < kSplit; ++s) {
TFS_UNROLL
    for (int r = 0; r < kRows; ++r) {
TFS_UNROLL
      for (int v = 0; v < kVecs; ++v) sum[0][r][v] = Add(sum[0][r][v], sum[s][r][v]);
    }
  }

  if (column + kVecs * kLanes <= target.end_column) {
    StoreBlock<false>(target, column, sum[0]);
  } else {
    StoreBlock<true>(target, column, sum[0]);
  }
  if (!whole) part.End(t);
}

template <int kRows>
void GemmRows(const GemmTile& t) {
  constexpr int kSplit = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  constexpr uint32_t kBlock = Vec::kGemmVecs * kLanes;
  static_assert(kPanel % kBlock == 0, "");
  uint32_t column = t.first_column - t.first_column % kLanes;
  while (column < t.end_column) {
    if (t.end_column - column > static_cast<uint32_t>(kLanes) && column + kBlock <= kPanel) {
      GemmBlock<kRows, Vec::kGemmVecs, kSplit>(t, column);
      column += kBlock;
    } else {
      GemmBlock<kRows, 1, kSplit>(t, column);
      column += kLanes;
    }
  }
}

void Gemm(const GemmTile& t) {
  static_assert(Vec::kGemmRows <= static_cast<int>(kMaxGemmRows), "");
  if (t.rows == 1) return GemmRows<1>(t);
  if (t.rows == 2) return GemmRows<2>(t);
  if (t.rows <= 4) return GemmRows<4>(t);
  if (Vec::kGemmRows > 8 && t.rows <= 8) return GemmRows<(Vec::kGemmRows > 8 ? 8 : Vec::kGemmRows)>(t);
  return GemmRows<Vec::kGemmRows>(t);
}

// Every lane reads its own element of a pixel, one position.
inline void PickedSums(const LaneTile& t, const float* const* taps, Vec (&sum)[kPanelVecs]) {
  const float* b = t.b;
  const float* const end = t.b + t.k * kPanel;
  uint32_t i = t.first_in;
  for (uint32_t tap = 0; tap < t.num_taps; ++tap) {
    const float* pixel = taps[tap];
    for (; i < t.filter_in && b < end; ++i, b += kPanel) {
      if (pixel == nullptr) continue;
      float x[kPanel];
      for (uint32_t j = 0; j < kPanel; ++j) x[j] = pixel[t.lanes[j] + i];
TFS_UNROLL
      for (int v = 0; v < kPanelVecs; ++v) sum[v] = MulAdd(Vec::Load(x + v * kLanes), Vec::Load(b + v * kLanes), sum[v]);
    }
    i = 0;
  }
}

inline void FinishLanes(const LaneTile& t, const Epilogue* e, Vec (&sum)[kPanelVecs], float* c) {
TFS_UNROLL
  for (int v = 0; v < kPanelVecs; ++v) {
    Vec y = sum[v];
    if (t.accumulate) y = Add(y, Vec::Load(c + v * kLanes));
    if (e != nullptr) y = Clamp(MulAdd(Vec::Load(e->scale + v * kLanes), y, Vec::Load(e->bias + v * kLanes)), *e);
    y.Store(c + v * kLanes);
  }
}

void Lanes(const LaneTile& t) {
  Part part;
  const Epilogue* e = t.columns == kPanel ? t.epilogue : part.SetEpilogue(t.epilogue, 0, t.columns);
  for (uint32_t p = 0; p < t.positions; ++p) {
    Vec sum[kPanelVecs];
TFS_UNROLL
    for (int v = 0; v < kPanelVecs; ++v) sum[v] = Vec::Zero();
    PickedSums(t, t.taps + static_cast<size_t>(p) * t.num_taps, sum);
    float* c = t.c + p * t.c_stride;
    if (t.columns == kPanel) {
      FinishLanes(t, e, sum, c);
      continue;
    }
    if (t.accumulate) std::memcpy(part.c[0], c, t.columns * sizeof(float));
    FinishLanes(t, e, sum, part.c[0]);
    std::memcpy(c, part.c[0], t.columns * sizeof(float));
  }
}

// kOffset: there is one other than 0.
template <bool kOffset>
inline Vec LoadValues(const int8_t* ids, Vec offset) {
  return kOffset ? Add(Vec::LoadIds(ids), offset) : Vec::LoadIds(ids);
}

template <bool kOffset>
void MultiplyIdsPlus(const int8_t* ids, const float* a, size_t k, float offset, float* sums) {
  constexpr int kVecs = kPanelVecs < Vec::kRegisters / 8 ? kPanelVecs : Vec::kRegisters / 8;
  const Vec add = Vec::Set(offset);
  for (uint32_t column = 0; column < kPanel; column += kVecs * kLanes) {
    Vec even[kVecs], odd[kVecs];  // two sums, so that the latency of one addition is not all that is seen
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      even[v] = Vec::Load(sums + column + v * kLanes);
      odd[v] = Vec::Zero();
    }
    const int8_t* row = ids + column;
    size_t i = 0;
    for (; i + 2 <= k; i += 2, row += 2 * kPanel) {
      const Vec x = Vec::Set(a[i]), y = Vec::Set(a[i + 1]);
TFS_UNROLL
      for (int v = 0; v < kVecs; ++v) {
        even[v] = MulAdd(x, LoadValues<kOffset>(row + v * kLanes, add), even[v]);
        odd[v] = MulAdd(y, LoadValues<kOffset>(row + kPanel + v * kLanes, add), odd[v]);
      }
    }
    if (i < k) {
TFS_UNROLL
      for (int v = 0; v < kVecs; ++v) even[v] = MulAdd(Vec::Set(a[i]), LoadValues<kOffset>(row + v * kLanes, add), even[v]);
    }
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) Add(even[v], odd[v]).Store(sums + column + v * kLanes);
  }
}

void MultiplyIds(const int8_t* const* ids, uint32_t tiles, const float* a, size_t k, float offset, float (*sums)[kPanel]) {
  for (uint32_t t = 0; t < tiles; ++t) (offset != 0.0f ? MultiplyIdsPlus<true> : MultiplyIdsPlus<false>)(ids[t], a, k, offset, sums[t]);
}

template <bool kOffset>
void DequantizePlus(const int8_t* ids, size_t count, float offset, float* values) {
  const Vec add = Vec::Set(offset);
  for (size_t i = 0; i < count; i += kPanel) {
TFS_UNROLL
    for (int v = 0; v < kPanelVecs; ++v) LoadValues<kOffset>(ids + i + v * kLanes, add).Store(values + i + v * kLanes);
  }
}

void Dequantize(const int8_t* ids, size_t count, float offset, float* values) {
  (offset != 0.0f ? DequantizePlus<true> : DequantizePlus<false>)(ids, count, offset, values);
}

// Sixteen rows at a time, first to a block in transposed order, so that both sides are touched a cache line at a time.
void ScaleTransposed(const float* values, const float* scale, size_t rows, uint32_t columns, float* out, size_t out_stride) {
  constexpr size_t kBlock = 16;
  size_t k = 0;
  for (; k + kBlock <= rows; k += kBlock) {
    const float* from = values + k * kPanel;
    for (uint32_t j = 0; j < columns; ++j) {
      float line[kBlock];
TFS_UNROLL
      for (size_t i = 0; i < kBlock; ++i) line[i] = from[i * kPanel + j];
      const Vec factor = Vec::Set(scale[j]);
TFS_UNROLL
      for (size_t i = 0; i < kBlock; i += kLanes) Mul(Vec::Load(line + i), factor).Store(out + j * out_stride + k + i);
    }
  }
  for (; k < rows; ++k) {
    for (uint32_t j = 0; j < columns; ++j) out[j * out_stride + k] = scale[j] * values[k * kPanel + j];
  }
}

void ScaleRows(const float* values, const float* scale, size_t rows, uint32_t columns, float* out, size_t out_stride) {
  if (columns == kPanel) {
    for (size_t k = 0; k < rows; ++k) {
TFS_UNROLL
      for (int v = 0; v < kPanelVecs; ++v) {
        Mul(Vec::Load(scale + v * kLanes), Vec::Load(values + k * kPanel + v * kLanes)).Store(out + k * out_stride + v * kLanes);
      }
    }
    return;
  }
  for (size_t k = 0; k < rows; ++k) {
    for (uint32_t j = 0; j < columns; ++j) out[k * out_stride + j] = scale[j] * values[k * kPanel + j];
  }
}

}  // namespace
}  // namespace tflite_smart

#include "kernels/float_curves-inl.h"
#include "kernels/float_depthwise-inl.h"
#include "kernels/float_glue-inl.h"
#include "kernels/float_smartdeal-inl.h"
#include "kernels/float_winograd-inl.h"

// multiply_ids: MultiplyIds, or what takes its place.
#define TFLITE_SMART_FLOAT_KERNELS(name, multiply_ids)                                                                                      \
  namespace tflite_smart {                                                                                                    \
  const FloatKernels name = {Vec::kGemmRows, Gemm,         Depthwise,        Lanes,      WinogradInput,                       \
                             WinogradFilter, WinogradOutput, multiply_ids,   CombineRow, SumRows, Softmax,    Map<LogisticOf>,   \
                             Map<SwishOf>, Map<HardSwishOf>, Map<GeluOf>, Dequantize, Coefficients,     MixGroups,  ScaleTransposed, ScaleRows};         \
  }
