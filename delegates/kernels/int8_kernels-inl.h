// The integer inner loops over a vector of int32 sums `Vec`, which the including file defines first:
//
//   struct Vec {
//     static constexpr int kLanes, kGemmRows, kBlockVecs;     kGemmRows x kBlockVecs accumulators fit the registers; a block is kBlockVecs
//     static constexpr int kLanePositions;                    vectors and holds consecutive channels
//     static Vec Zero(); static Vec Load(const void*);
//     void Store(int32_t*) const;
//   };
//   constexpr uint32_t kGroup; constexpr int32_t kOffset;   as in Int8Kernels
//   constexpr bool kHalfBlocks;                             a narrow panel's GEMM has one vector where that is half a block
//   Vec Add(Vec, Vec);
//   Vec Broadcast(const void* dword);                       a dword of A as Dot wants it
//   void LoadDwords(const int8_t* ids, Vec (&b)[kBlockVecs]);   kGroup rows of ids, 32 apart, of a block of channels as dwords of B
//   Vec Dot(Vec sum, Vec a, Vec b);                         sum + a . b over the dword of every lane
//   struct Requantizer: static bool Takes(const Int8Epilogue&); void Load(const Int8Epilogue&, int channel); Vec Run(Vec x), without the zero point, of an
//     epilogue that it takes; bool doubts() const: some result may be wrong. Kept in registers over many rows
//   struct ByteWriter: explicit ByteWriter(const Int8Epilogue&); void Write(const Vec (&y)[kBlockVecs], int8_t* to) const
//     adds the zero point, narrows, clamps; with kHalfBlocks also half as many
//   struct FloatWriter: void Load(const FloatEpilogue&, int channel); void SetRow(const Quantization&); void Write(Vec sum, float* to) const
//     as FloatEpilogue says, kOffset included; products and sums are rounded one by one
//   struct Pair: static Pair Load(const int8_t* a0, const int8_t* a1): a block of bytes of two k's
//     Vec Part(int v): what meets vector v of B
//   Vec DotPair(Vec sum, Vec a, Vec b);
//   void Pack, Quantize, WidenRange   as in Int8Kernels
//
// Everything lies in an anonymous namespace, for the reason given in isa.h. No include guard on purpose.
#include "kernels/int8_kernels.h"

#include <cstring>

namespace tflite_smart {
namespace {

constexpr uint32_t kPanel = 32;
constexpr int kLanes = Vec::kLanes;
constexpr int kBlockVecs = Vec::kBlockVecs;
constexpr uint32_t kBlock = kBlockVecs * kLanes;
static_assert(kPanel % kBlock == 0, "");

// Any multiplier, any sum: TFLite's arithmetic as it stands in requantize.h, one at a time.
inline int32_t RequantizeAny(int32_t x, const PanelFactors& p, uint32_t channel) {
  if (p.real) {
    // Halves away from zero, as std::round does; adding exactly 0.5 would also round up the double just below one half.
    constexpr double kHalf = 0.49999999999999994;
    double y = static_cast<double>(x) * p.scale[channel];
    y += y < 0 ? -kHalf : kHalf;
    y = y < -1000.0 ? -1000.0 : y > 1000.0 ? 1000.0 : y;  // far outside an int8: the conversion must not overflow
    return static_cast<int32_t>(y);
  }
  const int32_t left = p.shift[channel], right = -left;
  const int32_t shifted = left > 0 ? static_cast<int32_t>(static_cast<uint32_t>(x) << left) : x;
  const int64_t high = (static_cast<int64_t>(shifted) * p.multiplier[channel] + (int64_t{1} << 30)) >> 31;
  return static_cast<int32_t>(right <= 0 ? high : (high + (int64_t{1} << (right - 1)) - (high < 0 ? 1 : 0)) >> right);
}

__attribute__((noinline)) void StoreAny(const int32_t* sums, uint32_t count, const Int8Epilogue& e, uint32_t first, int8_t* to) {
  for (uint32_t s = 0; s < count; ++s) {
    int32_t y = RequantizeAny(sums[s], *e.factors, first + s) + e.zero_point;
    y = y < e.min ? e.min : y > e.max ? e.max : y;
    to[s] = static_cast<int8_t>(y);
  }
}

// Sums [rows][kVecs * kLanes]. False if the requantizer doubts. No call inside the loop, or its constants would have to leave the registers.
template <int kVecs>
inline bool FinishFast(const int32_t* sums, uint32_t rows, const Int8Epilogue& e, uint32_t first, int8_t* bytes, size_t stride) {
  const ByteWriter writer(e);
  Requantizer requantizers[kVecs];
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) requantizers[v].Load(e, first + v * kLanes);
  for (uint32_t r = 0; r < rows; ++r, sums += kVecs * kLanes, bytes += stride) {
    Vec y[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) y[v] = requantizers[v].Run(Vec::Load(sums + v * kLanes));
    writer.Write(y, bytes);
  }
  bool doubts = false;
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) doubts |= requantizers[v].doubts();
  return !doubts;
}

struct Columns {
  int8_t* c;  // row 0, column 0 of the panel
  size_t c_stride;
  uint32_t first_column, end_column;
};

// Sums [rows][kVecs * kLanes] of the channels from `first`. One copy for all tiles: the way through memory costs less than a copy of the epilogue for every
// row of every tile, which would not stay in the instruction cache.
template <int kVecs>
__attribute__((noinline)) void FinishRows(const int32_t* sums, uint32_t rows, const Int8Epilogue& e, uint32_t first, const Columns& to) {
  constexpr uint32_t kWidth = kVecs * kLanes;
  const uint32_t begin = to.first_column > first ? to.first_column : first;
  const uint32_t end = to.end_column < first + kWidth ? to.end_column : first + kWidth;
  const bool whole = end - begin == kWidth;
  int8_t part[kMaxInt8Rows * kWidth];  // where only some columns are wanted
  int8_t* const bytes = whole ? to.c + first : part;
  const size_t stride = whole ? to.c_stride : kWidth;
  for (uint32_t r = 0, count = rows; r < rows;) {  // all at once, or if that can't be one by one
    const int32_t* const from = sums + r * kWidth;
    const bool done = Requantizer::Takes(e) && FinishFast<kVecs>(from, count, e, first, bytes + r * stride, stride);
    if (!done && count == 1) StoreAny(from, kWidth, e, first, bytes + r * stride);
    if (done || count == 1) r += count;
    count = done ? count : 1;
  }
  for (uint32_t r = 0; r < rows && !whole; ++r) std::memcpy(to.c + r * to.c_stride + begin, part + r * kWidth + (begin - first), end - begin);
}

// The same for floats, kVecs vectors of sums a row.
template <int kVecs>
__attribute__((noinline)) void FinishFloatRows(const int32_t* sums, const Int8GemmTile& t, uint32_t first) {
  constexpr uint32_t kWidth = kVecs * kLanes;
  const uint32_t begin = t.first_column > first ? t.first_column : first;
  const uint32_t end = t.end_column < first + kWidth ? t.end_column : first + kWidth;
  const bool whole = end - begin == kWidth;
  FloatWriter writers[kVecs];
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) {
    writers[v].Load(*t.float_epilogue, static_cast<int>(first) + v * kLanes);
    writers[v].SetRow(t.quantization[0]);
  }
  const uint32_t rows = t.rows, new_rows = t.one_image ? rows : 1;  // from there on every row is of its own image
  const size_t stride = t.c_stride;
  float* y = t.y;
  for (uint32_t r = 0; r < rows; ++r, sums += kWidth, y += stride) {
    if (r >= new_rows) {
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) writers[v].SetRow(t.quantization[r]);
    }
    float part[kWidth];  // where only some columns are wanted
    float* const to = whole ? y + first : part;
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) writers[v].Write(Vec::Load(sums + v * kLanes), to + v * kLanes);
    if (!whole) std::memcpy(y + begin, part + (begin - first), (end - begin) * sizeof(float));
  }
}

// What the sums of one row of a tile begin with. Where nothing is computed in parts there are no partial sums, not even an address of theirs.
template <class Tile>
inline Vec Start(const Tile& t, uint32_t row, uint32_t column) {
  const Vec y = t.start != nullptr ? Vec::Load(t.start + column) : Vec::Zero();
  return t.accumulate ? Add(y, Vec::Load(t.partial + row * kPanel + column)) : y;
}

// One dword of every row.
template <int kRows, int kVecs>
inline void Multiply(Vec (&sum)[kRows][kVecs], const uint8_t* const* a, size_t at, const uint8_t* b) {
  Vec w[kVecs];
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) w[v] = Vec::Load(b + v * kLanes * sizeof(int32_t));
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const Vec x = Broadcast(a[r] + at);
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) sum[r][v] = Dot(sum[r][v], x, w[v]);
  }
}

// kRows x kVecs vectors. With few rows k is split over kSplit sets of accumulators, or the latency of one dot product would be all that is seen.
template <int kRows, int kSplit, int kVecs>
inline void GemmBlock(const Int8GemmTile& t, uint32_t first) {
  constexpr uint32_t kWidth = kVecs * kLanes;
  const uint8_t* a[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) a[r] = t.a[r];
  Vec sum[kSplit][kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    // Rows that the tile does not have begin as the last one does.
    const uint32_t row = static_cast<uint32_t>(r) < t.rows ? r : t.rows - 1;
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      sum[0][r][v] = Start(t, row, first + v * kLanes);
#pragma GCC unroll 16
      for (int s = 1; s < kSplit; ++s) sum[s][r][v] = Vec::Zero();
    }
  }
  const uint8_t* b = t.b + first * sizeof(int32_t);
  for (uint32_t i = 0; i < t.num_runs; ++i) {
    size_t at = t.runs[i];
    uint32_t groups = t.run_groups;
    for (; groups >= kSplit; groups -= kSplit) {
#pragma GCC unroll 16
      for (int s = 0; s < kSplit; ++s, at += sizeof(int32_t), b += kInt8GroupBytes) Multiply(sum[s], a, at, b);
    }
    for (; groups > 0; --groups, at += sizeof(int32_t), b += kInt8GroupBytes) Multiply(sum[0], a, at, b);
  }
  alignas(64) int32_t sums[kRows][kWidth];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
#pragma GCC unroll 16
      for (int s = 1; s < kSplit; ++s) sum[0][r][v] = Add(sum[0][r][v], sum[s][r][v]);
      sum[0][r][v].Store(sums[r] + v * kLanes);
    }
  }
  if (t.float_epilogue != nullptr) return FinishFloatRows<kVecs>(sums[0], t, first);
  if (t.epilogue != nullptr) return FinishRows<kVecs>(sums[0], t.rows, *t.epilogue, first, {t.c, t.c_stride, t.first_column, t.end_column});
  for (uint32_t r = 0; r < t.rows; ++r) std::memcpy(t.partial + r * kPanel + first, sums[r], sizeof(sums[r]));
}

template <int kRows>
void GemmRows(const Int8GemmTile& t) {
  constexpr int kSplit = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
  constexpr int kHalf = kHalfBlocks && kRows == Vec::kGemmRows ? kBlockVecs / 2 : kBlockVecs;  // where most rows are
  uint32_t first = t.first_column - t.first_column % kBlock;
  for (; first + kHalf * kLanes < t.end_column; first += kBlock) GemmBlock<kRows, kSplit, kBlockVecs>(t, first);
  if (first < t.end_column) GemmBlock<kRows, kSplit, kHalf>(t, first);
}

__attribute__((noinline)) void Gemm(const Int8GemmTile& t) {
  static_assert(Vec::kGemmRows <= static_cast<int>(kMaxInt8Rows), "");
  if (t.rows == 1) return GemmRows<1>(t);
  if (t.rows == 2) return GemmRows<2>(t);
  if (t.rows <= 4) return GemmRows<4>(t);
  if (Vec::kGemmRows > 8 && t.rows <= 8) return GemmRows<(Vec::kGemmRows > 8 ? 8 : Vec::kGemmRows)>(t);
  return GemmRows<Vec::kGemmRows>(t);
}

// finish(panel, first, numbers, sums) for each block of channels of a row times kept panels, with the numbers behind the panel. A panel takes less time than a few calls:
// everything stays in registers here.
template <class Finish>
inline void ForBlocksOfRow(const Int8KeptRow& t, Finish finish) {
  constexpr int kSplit = 4;
  const uint8_t* b = t.b;
  for (uint32_t p = 0; p < t.panels; ++p, b += kInt8GroupBytes) {
    const uint8_t* const end = b + t.groups * kInt8GroupBytes;
    for (uint32_t first = 0; first < kPanel; first += kBlock) {
      Vec sum[kSplit][1][kBlockVecs];
#pragma GCC unroll 16
      for (int s = 0; s < kSplit; ++s) {
#pragma GCC unroll 16
        for (int v = 0; v < kBlockVecs; ++v) sum[s][0][v] = Vec::Zero();
      }
      const uint8_t* from = b + first * sizeof(int32_t);
      size_t at = 0;
      uint32_t groups = t.groups;
      for (; groups >= kSplit; groups -= kSplit) {
#pragma GCC unroll 16
        for (int s = 0; s < kSplit; ++s, at += sizeof(int32_t), from += kInt8GroupBytes) Multiply(sum[s], &t.a, at, from);
      }
      for (; groups > 0; --groups, at += sizeof(int32_t), from += kInt8GroupBytes) Multiply(sum[0], &t.a, at, from);
#pragma GCC unroll 16
      for (int v = 0; v < kBlockVecs; ++v) sum[0][0][v] = Add(Add(sum[0][0][v], sum[1][0][v]), Add(sum[2][0][v], sum[3][0][v]));
      finish(p, first, reinterpret_cast<const int32_t*>(end), sum[0][0]);
    }
    b = end;
  }
}

void FloatRow(const Int8FloatRow& t) {
  FloatEpilogue e;
  e.min = t.min;
  e.max = t.max;
  ForBlocksOfRow(t.row, [&](uint32_t p, uint32_t first, const int32_t* ids, const Vec(&sum)[kBlockVecs]) {
    e.scale = t.scale + p * kPanel;
    e.bias = t.bias + p * t.bias_step;
    e.ids = ids;
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) {
      const uint32_t channel = first + static_cast<uint32_t>(v) * kLanes;
      FloatWriter writer;
      writer.Load(e, static_cast<int>(channel));
      writer.SetRow(*t.quantization);
      writer.Write(sum[v], t.y + p * kPanel + channel);
    }
  });
}

void FixedRow(const Int8FixedRow& t) {
  Int8Epilogue e;
  e.zero_point = t.zero_point;
  e.min = t.min;
  e.max = t.max;
  ForBlocksOfRow(t.row, [&](uint32_t p, uint32_t first, const int32_t* starts, const Vec(&sum)[kBlockVecs]) {
    e.factors = t.factors + p;
    alignas(64) int32_t sums[kBlock];
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) {
      const uint32_t channel = first + static_cast<uint32_t>(v) * kLanes;
      Add(sum[v], Add(Vec::Load(starts + channel), Vec::Load(t.bias + p * t.bias_step + channel))).Store(sums + v * kLanes);
    }
    FinishRows<kBlockVecs>(sums, 1, e, first, {t.y + p * kPanel, kPanel, 0, kPanel});
  });
}

// Rows of ids, 32 apart, to vectors of B.
using LoadIds = void (*)(const int8_t* ids, Vec (&b)[kBlockVecs]);

inline void LoadPairs(const int8_t* ids, Vec (&b)[kBlockVecs]) {
  const Pair pair = Pair::Load(ids, ids + kPanel);
#pragma GCC unroll 16
  for (int v = 0; v < kBlockVecs; ++v) b[v] = pair.Part(v);
}

// Dwords, or pairs, of ones.
template <LoadIds kLoad>
inline Vec Ones() {
  int8_t ids[kMaxInt8Group * kPanel];
  std::memset(ids, 1, sizeof(ids));
  Vec ones[kBlockVecs];
  kLoad(ids, ones);
  return ones[0];
}

template <uint32_t kGroupRows, LoadIds kLoad, Vec (*kDot)(Vec, Vec, Vec)>
void PackIds(const int8_t* ids, size_t groups, uint8_t* to, int32_t* sums) {
  const Vec ones = Ones<kLoad>();
  for (uint32_t first = 0; first < kPanel; first += kBlock) {
    Vec sum[kBlockVecs], b[kBlockVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) sum[v] = Vec::Load(sums + first + v * kLanes);
    for (size_t g = 0; g < groups; ++g) {
      kLoad(ids + g * kGroupRows * kPanel + first, b);
#pragma GCC unroll 16
      for (int v = 0; v < kBlockVecs; ++v) {
        std::memcpy(to + g * kInt8GroupBytes + (first + v * kLanes) * sizeof(int32_t), &b[v], sizeof(b[v]));
        sum[v] = kDot(sum[v], ones, b[v]);
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) sum[v].Store(sums + first + v * kLanes);
  }
}

void MultiplyIds(const Int8IdsTile& t) {
  const Vec ones = Ones<LoadDwords>();
  for (uint32_t first = 0; first < kPanel; first += kBlock) {
    Vec sum[kBlockVecs], ids[kBlockVecs], b[kBlockVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) {
      sum[v] = Vec::Load(t.sums + first + v * kLanes);
      ids[v] = Vec::Load(t.id_sums + first + v * kLanes);
    }
    for (size_t g = 0; g < t.groups; ++g) {
      LoadDwords(t.ids + g * kGroup * kPanel + first, b);
      const Vec x = Broadcast(t.a + g * sizeof(int32_t));
#pragma GCC unroll 16
      for (int v = 0; v < kBlockVecs; ++v) {
        sum[v] = Dot(sum[v], x, b[v]);
        ids[v] = Dot(ids[v], ones, b[v]);
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) {
      sum[v].Store(t.sums + first + v * kLanes);
      ids[v].Store(t.id_sums + first + v * kLanes);
    }
  }
}

// kSteps: taps lie at steps.
template <int kPositions, bool kSteps>
inline void LanesOf(const Int8LaneTile& t, uint32_t position, uint32_t first) {
  Vec sum[kPositions][kBlockVecs];
#pragma GCC unroll 16
  for (int p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) {
      sum[p][v] = Start(t, position + p, first + v * kLanes);
    }
  }
  const int8_t* const* taps = t.taps + (kSteps ? 0 : static_cast<size_t>(position) * 2 * t.pairs);
  const size_t begin = t.offset + first + (kSteps ? position * t.step : 0), step = kSteps ? t.step : 0;
  const uint8_t* b = t.b + first * sizeof(int32_t);
  for (uint32_t pair = 0; pair < t.pairs; ++pair) {
    Vec w[kBlockVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) w[v] = Vec::Load(b + v * kLanes * sizeof(int32_t));
#pragma GCC unroll 16
    for (int p = 0; p < kPositions; ++p) {
      const int8_t* const* two = taps + (kSteps ? 0 : static_cast<size_t>(p) * 2 * t.pairs) + 2 * pair;
      const size_t at0 = kSteps || two[0] != t.outside ? begin + p * step : first, at1 = kSteps || two[1] != t.outside ? begin + p * step : first;
      const Pair x = Pair::Load(two[0] + at0, two[1] + at1);
#pragma GCC unroll 16
      for (int v = 0; v < kBlockVecs; ++v) sum[p][v] = DotPair(sum[p][v], x.Part(v), w[v]);
    }
    b += kInt8GroupBytes;
  }
  alignas(64) int32_t sums[kPositions][kBlock];
#pragma GCC unroll 16
  for (int p = 0; p < kPositions; ++p) {
#pragma GCC unroll 16
    for (int v = 0; v < kBlockVecs; ++v) sum[p][v].Store(sums[p] + v * kLanes);
  }
  if (t.epilogue != nullptr) {
    return FinishRows<kBlockVecs>(sums[0], kPositions, *t.epilogue, first, {t.c + position * t.c_stride, t.c_stride, 0, t.columns});
  }
  for (int p = 0; p < kPositions; ++p) std::memcpy(t.partial + (position + p) * kPanel + first, sums[p], sizeof(sums[p]));
}

template <bool kSteps>
void LanesOfAll(const Int8LaneTile& t) {
  for (uint32_t first = 0; first < t.columns; first += kBlock) {
    uint32_t p = 0;
    for (; p + Vec::kLanePositions <= t.positions; p += Vec::kLanePositions) LanesOf<Vec::kLanePositions, kSteps>(t, p, first);
    for (; p < t.positions; ++p) LanesOf<1, kSteps>(t, p, first);
  }
}

void Lanes(const Int8LaneTile& t) {
  if (t.outside == nullptr) return LanesOfAll<true>(t);
  LanesOfAll<false>(t);
}

}  // namespace
}  // namespace tflite_smart

// gemm: Gemm, or what takes its place, for at most gemm_rows rows.
#define TFLITE_SMART_INT8_KERNELS(name, gemm_rows, gemm, multiply_planes)                                                                          \
  namespace tflite_smart {                                                                                                                         \
  const Int8Kernels name = {gemm_rows, kGroup, kOffset, Pack, Quantize, WidenRange, PackIds<kGroup, LoadDwords, Dot>, gemm, FloatRow, FixedRow,     \
                            MultiplyIds, multiply_planes, PackIds<2, LoadPairs, DotPair>, Lanes};                                                  \
  }
