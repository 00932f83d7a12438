// The integer inner loops: one table of functions per instruction set, all made from int8_kernels-inl.h. int8 x int8 -> int32 -> int8 or float.
//
// READ FIRST
// * k is cut in **runs** whose elements are neighbours in the input: a line of the filter's window, or one pixel of it. A run is cut in **dwords** of
//   `group` consecutive k: four bytes or two int16, whichever the machine's dot product takes. The last dword of a run may hold anything behind the
//   run's end, because B is 0 there. So rows of A are read where the input lies; they are not packed one by one.
// * B, one panel of 32 channels, is packed so that one dword a channel, 128 bytes, meets one dword of A.
// * A holds a + offset, because VNNI multiplies unsigned with signed bytes. sum(b * (a - zero_point)) = sum(b * (a + offset))
//   - (zero_point + offset) * sum(b): the second term needs only the sums that packing B yields. So the zero point costs nothing, and elements
//   outside an image are the zero point.
// * All sums wrap like an int32, as the order of additions must not matter.
// * Dynamic layers have float inputs and outputs. Every row of A may have a zero point and a scale of its own, so both meet the sums in the
//   epilogue: FloatEpilogue. No rounding depends on the instruction set.
#ifndef TFLITE_SMART_KERNELS_INT8_KERNELS_H_
#define TFLITE_SMART_KERNELS_INT8_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "core/coding.h"

namespace tflite_smart {

// No instruction set has a taller tile.
constexpr uint32_t kMaxInt8Rows = 16;

// Nor more k in a dword.
constexpr uint32_t kMaxInt8Group = 4;

// Bytes of a packed panel per dword of A.
constexpr uint32_t kInt8GroupBytes = 128;

// By what the sums of a panel's channels are multiplied to become int8: TFLite's two ways, see requantize.h, and floats, which kernels may use where they see
// that it comes to the same.
struct PanelFactors {
  union {
    double scale[32];        // real
    struct {                 // fixed point
      int32_t multiplier[32];
      int32_t shift[32];     // to the left, -31..31
    };
  };
  float factor[32];          // `scale`, or multiplier * 2^(shift - 31)
  float nudge[32];           // fixed point with a shift to the right: 2^(shift - 1), else 0. Rounding |sum * factor| + nudge once makes what rounding twice does, but
                             // for a difference of 2^(shift - 31)
  bool real;
  bool small;                // all of them are below 1/2: then |sum * factor| is below 2^30, and nothing wraps
};

// How a sum becomes an int8.
struct alignas(64) Int8Epilogue {
  int32_t bias[32];        // where the sums start
  const PanelFactors* factors;
  int32_t zero_point;
  int32_t min;             // of the result, zero point included; -128..127
  int32_t max;
};

// How floats became int8 by dynamic quantization: x = scale * (q - zero_point), q = clamp(round(x * inverse) + zero_point), halves to even.
struct Quantization {
  float scale;
  float inverse;
  int32_t zero_point;  // -128..127
};

// How a sum becomes a float, by channel: clamp(float(sum - (zero_point + offset) * ids) * (row's scale * scale) + bias).
struct FloatEpilogue {
  const float* scale;  // 32
  const float* bias;
  const int32_t* ids;  // their sums
  float min;
  float max;
  float room[2][32];   // for scales and biases that don't lie anywhere as they are wanted
};

// c[rows][32] = epilogue(start + a[rows][k] * b[k][32]), for columns first_column <= j < end_column.
struct Int8GemmTile {
  const uint8_t* const* a;       // where each row begins; kMaxInt8Rows pointers, those past `rows` to any row
  const uint32_t* runs;          // bytes from there to each run
  uint32_t num_runs;
  uint32_t run_groups;           // dwords of a run
  const uint8_t* b;              // num_runs * run_groups dwords of 32 channels
  uint32_t rows;                 // 1..gemm_rows
  const int32_t* start;          // 32 sums to start from, the same for every row; null: 0
  bool accumulate;               // add what `partial` holds
  int32_t* partial;              // [rows][32]: where sums wait that are not complete
  const Int8Epilogue* epilogue;  // this one writes int8 to c,
  int8_t* c;                     // column 0 of the panel
  const FloatEpilogue* float_epilogue;  // and this one floats to y; both null: leave the sums in `partial`
  float* y;
  const Quantization* quantization;     // of each row, for float_epilogue
  bool one_image;                       // they are all the same
  size_t c_stride;               // of c or y, in elements
  uint32_t first_column;
  uint32_t end_column;           // at most 32
};

// One row times whole panels that are kept packed (int8_kept.h).
struct Int8KeptRow {
  const uint8_t* a;
  uint32_t groups;   // dwords
  const uint8_t* b;  // of a panel, and then 32 numbers that say what its ids add up to
  uint32_t panels;
};

// The same with a float epilogue: y[panels * 32].
struct Int8FloatRow {
  Int8KeptRow row;
  const float* scale;  // panels * 32
  const float* bias;   // the same, or 32 zeros for all panels if bias_step is 0
  uint32_t bias_step;
  float min;
  float max;
  const Quantization* quantization;
  float* y;
};

// And with a fixed one: y[panels * 32].
struct Int8FixedRow {
  Int8KeptRow row;
  const int32_t* bias;          // as above
  uint32_t bias_step;
  const PanelFactors* factors;  // of each panel
  int32_t zero_point;
  int32_t min;
  int32_t max;
  int8_t* y;
};

// sums[32] += a[k] * ids[k][32] and id_sums[32] += ids[k][32], for weights that only one row meets: they are not worth packing.
struct Int8IdsTile {
  const uint8_t* a;
  const int8_t* ids;  // groups * group rows of 32
  size_t groups;      // dwords
  int32_t* sums;
  int32_t* id_sums;
};

// The same with the planes of codec `bitpack` for ids; whole rows of a panel of 32 channels, and ids that do not wrap.
struct Int8PlanesTile {
  const uint8_t* a;
  size_t groups;   // dwords of 4 k
  int32_t* sums;
  int32_t* id_sums;
};

// Moves `state` on, as DecodeRows does.
void MultiplyPlanesAvx512(const Coding& coding, TileState* state, const Int8PlanesTile& tile);

// Without reduction over channels: lane j of output channel j reads byte j of each k's 32 bytes.
struct Int8LaneTile {
  const int8_t* const* taps;     // pointers to 32 bytes: 2 * pairs for each position, or of the first one alone, if `outside` is null
  const int8_t* outside;         // this tap is taken as it is, to all others `offset` is added
  size_t offset;
  size_t step;                   // without `outside`: from the taps of one position to those of the next
  uint32_t positions;
  uint32_t pairs;                // of k
  const uint8_t* b;
  const int32_t* start;          // these as above; partial is [positions][32]
  bool accumulate;
  int32_t* partial;
  const Int8Epilogue* epilogue;
  int8_t* c;
  size_t c_stride;
  uint32_t columns;              // 1..32
};

// ids[groups * group][32] -> B; sums[channel] += the ids of the channel.
using PackPanel = void (*)(const int8_t* ids, size_t groups, uint8_t* to, int32_t* sums);

struct Int8Kernels {
  uint32_t gemm_rows;
  uint32_t group;        // k in one dword of A
  int32_t offset;        // see above

  // int8, and floats that are quantized on the way -> elements of A. May write up to 64 bytes more.
  void (*pack)(const int8_t* from, size_t count, uint8_t* to);
  void (*quantize)(const float* from, size_t count, const Quantization& quantization, uint8_t* to);

  // Widens range[0]..range[1], which are finite and hold 0, to what x holds. A NaN or an infinity among it makes range[1] NaN.
  void (*widen_range)(const float* x, size_t count, float* range);

  PackPanel pack_panel;
  void (*gemm)(const Int8GemmTile& tile);
  void (*float_row)(const Int8FloatRow& row);
  void (*fixed_row)(const Int8FixedRow& row);
  void (*multiply_ids)(const Int8IdsTile& tile);
  void (*multiply_planes)(const Coding& coding, TileState* state, const Int8PlanesTile& tile);  // null where ids that are decoded first are as fast

  // The same two for lanes, where the dwords are always pairs of int16 and the offset is 0.
  PackPanel pack_lanes;
  void (*lanes)(const Int8LaneTile& tile);
};

extern const Int8Kernels kInt8Scalar;
extern const Int8Kernels kInt8Avx2;
extern const Int8Kernels kInt8Avx512;
extern const Int8Kernels kInt8Amx;
extern const Int8Kernels kInt8Neon;
extern const Int8Kernels kInt8Neondot;

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_KERNELS_H_
