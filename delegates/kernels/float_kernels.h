// The float32 inner loops: one table of functions per instruction set, all made from float_kernels-inl.h.
//
// All work on one panel of 32 output channels whose weights have been decoded to floats, k-major: b[k][32]. Nothing here knows about
// tiles, codecs or shapes of images.
#ifndef TFLITE_SMART_KERNELS_FLOAT_KERNELS_H_
#define TFLITE_SMART_KERNELS_FLOAT_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace tflite_smart {

// Largest piece of a panel's k that is decoded and multiplied at once: 36 KB of floats. 288 = 9 * 32 holds a 3x3 filter of 32 channels.
constexpr uint32_t kMaxChunk = 288;

// Floats from one packed row of A to the next. A constant, so that every row is the same register plus a constant, and no power of
// two, so that the rows do not fall on the same cache set.
constexpr uint32_t kPackedRowStride = kMaxChunk + 16;

// Most k that one row of A is multiplied with at once: keeps the ids of some panels in the first-level cache.
constexpr uint32_t kMaxRowPiece = 128;

// No instruction set has a taller GEMM tile.
constexpr uint32_t kMaxGemmRows = 12;

// What is done once per output: clamp(scale[n] * sum + bias[n]). Pointers to the panel's first channel. Infinite limits cost nothing.
struct Epilogue {
  const float* scale;
  const float* bias;
  float min;
  float max;
};

// c[rows][32] (+)= a[rows][k] * b[k][32], for columns first_column <= j < end_column. Rows of a may be windows of an image: `lines` runs of k.
struct GemmTile {
  const float* a;            // the rows up to the next height that the kernel has, at most gemm_rows, are read too
  size_t a_stride;
  const float* b;            // [lines][k][32]
  size_t k;                  // lines * k: 1..kMaxChunk
  uint32_t lines = 1;
  size_t line_stride = 0;    // from one line of a row to the next
  float* c;                  // column 0 of the panel
  size_t c_stride;
  uint32_t rows;             // 1..gemm_rows
  uint32_t first_column;
  uint32_t end_column;       // at most 32
  bool accumulate;           // add what c holds
  const Epilogue* epilogue;  // null before the last piece of k
};

// Depthwise convolution with one output channel per input channel: neighbouring positions of one line of the output, all their windows
// cut alike by the border of the image. Strides are in floats.
struct DepthwiseLine {
  const float* x;                // the first tap inside the image of the first position
  size_t row_stride;             // from one row of the window to the next
  size_t tap_stride;             // ... one column ...
  size_t position_stride;
  uint32_t rows, taps;           // of the window, inside the image
  uint32_t positions;
  uint32_t channels;
  const float* b;                // the first tap inside the image, of the first panel
  size_t b_row_stride;
  size_t b_panel_stride;
  float* c;
  size_t c_stride;
  const float* scale;            // of `channels` channels
  const float* bias;             // null: none
  float min, max;
};

// Winograd's F(2x2, 3x3), see conv2d_winograd.cc: the edge of a tile's input, the tiles and the input channels that are worked on together. All
// instruction sets' gemm_rows divide the number of tiles.
constexpr int kWinogradEdge = 4;
constexpr uint32_t kWinogradTiles = 12;
constexpr uint32_t kWinogradPiece = 64;
constexpr uint32_t kWinogradMaxChannels = 512;

// From the 16 sums of products of a tile to its 2x2 outputs.
struct WinogradTile {
  const float* m;
  size_t m_stride;           // from one of the 16 to the next
  float* c[2][2];            // null outside the image
  uint32_t columns;          // 1..32
  bool accumulate;
  const Epilogue* epilogue;  // null before the last piece of k
};

// Convolution without reduction over a panel's 32 lanes: lane j of output channel j reads input channel lanes[j] (+ i) only.
struct LaneTile {
  const float* const* taps;  // positions x num_taps pointers to an input pixel; null outside the image
  uint32_t positions;
  uint32_t num_taps;
  uint32_t filter_in;        // consecutive k with the same pixel
  uint32_t first_in;         // where in filter_in the first k stands
  size_t k;                  // rows of b
  const int32_t* lanes;      // 32 offsets from the pixel
  const float* b;
  float* c;
  size_t c_stride;
  uint32_t columns;          // 1..32
  bool accumulate;
  const Epilogue* epilogue;
};

// The format's kMaxGroup and kMaxCoefficient.
constexpr uint32_t kGroupLimit = 8;
constexpr int32_t kCoefficientLimit = 15;

// Coefficients of value kind smartdeal to weights, in place: whole groups, of one panel.
struct GroupTile {
  float* values;             // [k][32]
  size_t k;
  uint32_t size, stride;     // of a group
  uint32_t first_group;      // the panel's group that `values` begins with
  uint32_t slice_groups;
  const int8_t* basis;       // of slice 0, from the panel's first channel
  size_t basis_stride;       // from one [coefficient][weight] to the next
};

// y[i] = clamp(a[i] op b[i]). y may be a or b.
enum class Binary { kAdd, kSub, kMul, kMax, kSquaredDifference };

struct BinaryRow {
  const float* a;
  const float* b;
  bool one_b;                // b is one number, for all i
  size_t count;
  float min, max;
  float* y;
};

struct FloatKernels {
  uint32_t gemm_rows;
  void (*gemm)(const GemmTile& tile);
  void (*depthwise)(const DepthwiseLine& line);
  void (*lanes)(const LaneTile& tile);

  // The 4x4 pixels at x, `channels` of each, to 16 lines of v. May write up to the next multiple of 16 channels.
  void (*winograd_input)(const float* x, size_t row_stride, size_t pixel_stride, uint32_t channels, float* v, size_t v_stride);
  // `channels` rows of 32 ids of 9 taps to 16 blocks of u[channels][32].
  void (*winograd_filter)(const int8_t* ids, size_t tap_stride, uint32_t channels, float offset, float* u, size_t u_stride);
  void (*winograd_output)(const WinogradTile& tile);

  // sums[t][j] += a[i] * (ids[t][i * 32 + j] + offset), for t < tiles, j < 32 and i < k <= kMaxRowPiece: one row of A with weights that nobody else needs.
  void (*multiply_ids)(const int8_t* const* ids, uint32_t tiles, const float* a, size_t k, float offset, float (*sums)[32]);

  void (*binary)(Binary binary, const BinaryRow& row);

  // y[j] = scale * (x[j] + x[stride + j] + ...), of so many rows.
  void (*sum_rows)(const float* x, size_t rows, size_t stride, size_t columns, float scale, float* y);

  // y[i] = e^(beta * (x[i] - the largest)) over the sum of all, exponents cut at -87. y may be x.
  void (*softmax)(const float* x, size_t count, float beta, float* y);

  // 1 / (1 + e^-x) with x cut at -87 and 87, x / (1 + e^-x), and x * min(max(x + 3, 0), 6) / 6. y may be x.
  void (*logistic)(const float* x, size_t count, float* y);
  void (*swish)(const float* x, size_t count, float* y);
  void (*hard_swish)(const float* x, size_t count, float* y);

  // x * P(X < x) of a normal X.
  void (*gelu)(const float* x, size_t count, float* y);

  // values[i] = ids[i] + offset. Exact. May write up to the next multiple of 32 values.
  void (*dequantize)(const int8_t* ids, size_t count, float offset, float* values);

  // Rows of 32: values[k][j] = c(ids[k][j]) of FORMAT.md, a power of two or 0. Exact.
  void (*coefficients)(const int8_t* ids, size_t rows, float* values);
  void (*mix_groups)(const GroupTile& tile);

  // out[j * out_stride + k] = scale[j] * values[k * 32 + j] for k < rows, j < columns: one rounding.
  void (*scale_transposed)(const float* values, const float* scale, size_t rows, uint32_t columns, float* out, size_t out_stride);

  // out[k * out_stride + j] = scale[j] * values[k * 32 + j].
  void (*scale_rows)(const float* values, const float* scale, size_t rows, uint32_t columns, float* out, size_t out_stride);
};

extern const FloatKernels kFloatScalar;
extern const FloatKernels kFloatAvx2;
extern const FloatKernels kFloatAvx512;
extern const FloatKernels kFloatNeon;

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_FLOAT_KERNELS_H_
