// The float32 inner loops over a vector type `Vec`, which the including file defines first:
//
//   struct Vec {
//     static constexpr int kLanes, kRegisters, kGemmRows, kGemmVecs;      kGemmRows x kGemmVecs accumulators fit the registers
//     static Vec Zero(); Vec Set(float); Vec Load(const float*); Vec LoadIds(const int8_t*);
//     void Store(float*) const;
//   };
//   Vec Add(Vec a, Vec b);  Vec Mul(Vec a, Vec b);  Vec MulAdd(Vec a, Vec b, Vec c): a * b + c;  Vec Min(...);  Vec Max(...);
//
// A new instruction set is one file: Vec, this include, TFLITE_SMART_FLOAT_KERNELS(kFloatName). Everything lies in an anonymous namespace, for
// the reason given in isa.h. No include guard on purpose.
#include "kernels/float_kernels.h"

#include <cstring>

namespace tflite_smart {
namespace {

constexpr uint32_t kPanel = 32;
constexpr int kLanes = Vec::kLanes;
constexpr int kPanelVecs = kPanel / kLanes;

inline Vec Clamp(Vec y, const Epilogue& e) {
  return Min(Vec::Set(e.max), Max(Vec::Set(e.min), y));  // in this order a NaN survives on every machine
}

template <int kRows, int kVecs>
inline void StoreBlock(const GemmTile& t, uint32_t column, Vec (&sum)[kRows][kVecs]) {
  // Rows that the tile does not have are stored on its last row, which is why rows are stored from the last to the first.
  float* c[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    c[r] = t.c + (static_cast<uint32_t>(r) < t.rows ? r : t.rows - 1) * t.c_stride + column;
  }
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[r][v] = Add(sum[r][v], Vec::Load(c[r] + v * kLanes));
    }
  }
  if (t.epilogue != nullptr) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      const Vec scale = Vec::Load(t.epilogue->scale + column + v * kLanes);
      const Vec bias = Vec::Load(t.epilogue->bias + column + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) sum[r][v] = Clamp(MulAdd(scale, sum[r][v], bias), *t.epilogue);
    }
  }
#pragma GCC unroll 16
  for (int r = kRows - 1; r >= 0; --r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) sum[r][v].Store(c[r] + v * kLanes);
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

template <int kRows, int kVecs>
__attribute__((noinline)) void StorePart(const GemmTile& t, uint32_t column, Vec (&sum)[kRows][kVecs]) {
  const uint32_t first = t.first_column > column ? t.first_column : column;
  const uint32_t end = t.end_column < column + kVecs * kLanes ? t.end_column : column + kVecs * kLanes;
  const size_t bytes = (end - first) * sizeof(float);
  Part part;
  GemmTile whole = t;
  whole.c = part.c[0];
  whole.c_stride = kPanel;
  whole.epilogue = part.SetEpilogue(t.epilogue, first, end);
  for (uint32_t r = 0; t.accumulate && r < t.rows; ++r) std::memcpy(part.c[r] + first, t.c + r * t.c_stride + first, bytes);
  StoreBlock<kRows, kVecs>(whole, column, sum);
  for (uint32_t r = 0; r < t.rows; ++r) std::memcpy(t.c + r * t.c_stride + first, part.c[r] + first, bytes);
}

// Columns of one vector block: kRows x kVecs accumulators. With few rows k is split over kSplit sets of accumulators, or the latency
// of one addition would be all that is seen.
template <int kRows, int kVecs, int kSplit>
inline void GemmBlock(const GemmTile& t, uint32_t column) {
  Vec sum[kSplit][kRows][kVecs];
#pragma GCC unroll 16
  for (int s = 0; s < kSplit; ++s) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[s][r][v] = Vec::Zero();
    }
  }
  const float* a = t.a;
  const float* b = t.b + column;
  size_t k = t.k;
  for (; k >= kSplit; k -= kSplit) {
#pragma GCC unroll 16
    for (int s = 0; s < kSplit; ++s) {
      Vec w[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) w[v] = Vec::Load(b + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const Vec x = Vec::Set(a[r * kPackedRowStride]);
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) sum[s][r][v] = MulAdd(x, w[v], sum[s][r][v]);
      }
      ++a;
      b += kPanel;
    }
  }
  for (; k > 0; --k) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        sum[0][r][v] = MulAdd(Vec::Set(a[r * kPackedRowStride]), Vec::Load(b + v * kLanes), sum[0][r][v]);
      }
    }
    ++a;
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int s = 1; s < kSplit; ++s) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[0][r][v] = Add(sum[0][r][v], sum[s][r][v]);
    }
  }

  const uint32_t end = column + kVecs * kLanes;
  if (t.first_column <= column && end <= t.end_column) {
    StoreBlock<kRows, kVecs>(t, column, sum[0]);
    return;
  }
  StorePart<kRows, kVecs>(t, column, sum[0]);
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

// The 32 input values of one k: consecutive, or picked one by one.
inline void LoadLanes(const float* pixel, const int32_t* lanes, Vec x[kPanelVecs]) {
  float picked[kPanel];
  if (lanes != nullptr) {
    for (uint32_t j = 0; j < kPanel; ++j) picked[j] = pixel[lanes[j]];
    pixel = picked;
  }
#pragma GCC unroll 16
  for (int v = 0; v < kPanelVecs; ++v) x[v] = Vec::Load(pixel + v * kLanes);
}

// Any pattern of lanes, one position.
inline void PickedSums(const LaneTile& t, const float* const* taps, Vec (&sum)[kPanelVecs]) {
  const float* b = t.b;
  const float* const end = t.b + t.k * kPanel;
  uint32_t i = t.first_in;
  for (uint32_t tap = 0; tap < t.num_taps; ++tap) {
    const float* pixel = taps[tap];
    for (; i < t.filter_in && b < end; ++i, b += kPanel) {
      if (pixel == nullptr) continue;
      Vec x[kPanelVecs];
      LoadLanes(pixel + t.pixel_offset + i, t.lanes, x);
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVecs; ++v) sum[v] = MulAdd(x[v], Vec::Load(b + v * kLanes), sum[v]);
    }
    i = 0;
  }
}

// Consecutive lanes, one input channel each: a row of weights is loaded once for several positions.
template <int kPositions>
inline void ConsecutiveSums(const LaneTile& t, const float* const* taps, Vec (&sum)[kPositions][kPanelVecs]) {
  for (uint32_t tap = 0; tap < t.num_taps; ++tap) {
    Vec w[kPanelVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kPanelVecs; ++v) w[v] = Vec::Load(t.b + tap * kPanel + v * kLanes);
#pragma GCC unroll 16
    for (int p = 0; p < kPositions; ++p) {
      const float* pixel = taps[p * t.num_taps + tap];
      if (pixel == nullptr) continue;
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVecs; ++v) sum[p][v] = MulAdd(Vec::Load(pixel + t.pixel_offset + v * kLanes), w[v], sum[p][v]);
    }
  }
}

inline void StoreLanes(const LaneTile& t, const Epilogue* e, Vec (&sum)[kPanelVecs], float* c) {
#pragma GCC unroll 16
  for (int v = 0; v < kPanelVecs; ++v) {
    Vec y = sum[v];
    if (t.accumulate) y = Add(y, Vec::Load(c + v * kLanes));
    if (e != nullptr) y = Clamp(MulAdd(Vec::Load(e->scale + v * kLanes), y, Vec::Load(e->bias + v * kLanes)), *e);
    y.Store(c + v * kLanes);
  }
}

template <int kPositions>
inline void LanesOf(const LaneTile& t, uint32_t position, Part* part, const Epilogue* e) {
  Vec sum[kPositions][kPanelVecs];
#pragma GCC unroll 16
  for (int p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kPanelVecs; ++v) sum[p][v] = Vec::Zero();
  }
  const float* const* taps = t.taps + static_cast<size_t>(position) * t.num_taps;
  if (t.lanes == nullptr) {
    ConsecutiveSums<kPositions>(t, taps, sum);
  } else {
    for (int p = 0; p < kPositions; ++p) PickedSums(t, taps + p * t.num_taps, sum[p]);
  }
#pragma GCC unroll 16
  for (int p = 0; p < kPositions; ++p) {
    float* c = t.c + (position + p) * t.c_stride;
    if (t.columns == kPanel) {
      StoreLanes(t, e, sum[p], c);
      continue;
    }
    if (t.accumulate) std::memcpy(part->c[0], c, t.columns * sizeof(float));
    StoreLanes(t, e, sum[p], part->c[0]);
    std::memcpy(c, part->c[0], t.columns * sizeof(float));
  }
}

void Lanes(const LaneTile& t) {
  constexpr int kHalf = Vec::kRegisters / 2 / kPanelVecs;
  constexpr int kPositions = kHalf > 1 ? kHalf : 1;
  Part part;
  const Epilogue* e = t.columns == kPanel ? t.epilogue : part.SetEpilogue(t.epilogue, 0, t.columns);
  uint32_t p = 0;
  for (; p + kPositions <= t.positions; p += kPositions) LanesOf<kPositions>(t, p, &part, e);
  for (; p < t.positions; ++p) LanesOf<1>(t, p, &part, e);
}

void Dequantize(const int8_t* ids, size_t count, float offset, float* values) {
  const Vec add = Vec::Set(offset);
  for (size_t i = 0; i < count; i += kPanel) {
#pragma GCC unroll 16
    for (int v = 0; v < kPanelVecs; ++v) Add(Vec::LoadIds(ids + i + v * kLanes), add).Store(values + i + v * kLanes);
  }
}

// Sixteen rows at a time, first to a block in transposed order, so that both sides are touched a cache line at a time.
void ScaleTransposed(const float* values, const float* scale, size_t rows, uint32_t columns, float* out, size_t out_stride) {
  constexpr size_t kBlock = 16;
  size_t k = 0;
  for (; k + kBlock <= rows; k += kBlock) {
    const float* from = values + k * kPanel;
    for (uint32_t j = 0; j < columns; ++j) {
      float line[kBlock];
#pragma GCC unroll 16
      for (size_t i = 0; i < kBlock; ++i) line[i] = from[i * kPanel + j];
      const Vec factor = Vec::Set(scale[j]);
#pragma GCC unroll 16
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
#pragma GCC unroll 16
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

#define TFLITE_SMART_FLOAT_KERNELS(name)                                                                    \
  namespace tflite_smart {                                                                                  \
  const FloatKernels name = {Vec::kGemmRows, Gemm, Lanes, Dequantize, ScaleTransposed, ScaleRows};          \
  }
