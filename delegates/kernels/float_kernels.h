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

// No instruction set has a taller GEMM tile.
constexpr uint32_t kMaxGemmRows = 12;

// What is done once per output: clamp(scale[n] * sum + bias[n]). Pointers to the panel's first channel.
struct Epilogue {
  const float* scale;
  const float* bias;
  float min;
  float max;
};

// c[rows][32] (+)= a[rows][k] * b[k][32], for columns first_column <= j < end_column.
struct GemmTile {
  const float* a;            // row stride kPackedRowStride; kMaxGemmRows rows may be read
  const float* b;
  size_t k;                  // 1..kMaxChunk
  float* c;                  // column 0 of the panel
  size_t c_stride;
  uint32_t rows;             // 1..gemm_rows
  uint32_t first_column;
  uint32_t end_column;       // at most 32
  bool accumulate;           // add what c holds
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
  size_t pixel_offset;       // added to every tap
  const int32_t* lanes;      // 32 offsets from the pixel; null: lane j reads element j
  const float* b;
  float* c;
  size_t c_stride;
  uint32_t columns;          // 1..32; 32 if lanes is null
  bool accumulate;
  const Epilogue* epilogue;
};

struct FloatKernels {
  uint32_t gemm_rows;
  void (*gemm)(const GemmTile& tile);
  void (*lanes)(const LaneTile& tile);

  // values[i] = ids[i] + offset. Exact. May write up to the next multiple of 32 values.
  void (*dequantize)(const int8_t* ids, size_t count, float offset, float* values);

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
