// What the files int8_*.cc share that are the same for every instruction set.
#ifndef TFLITE_SMART_KERNELS_INT8_PARTS_H_
#define TFLITE_SMART_KERNELS_INT8_PARTS_H_

#include "kernels/conv2d_parts.h"
#include "kernels/int8_conv2d.h"
#include "kernels/panel_reader.h"

namespace tflite_smart {

// Packed panels that are multiplied together, at most: 384 KB, so that they stay in a second-level cache. A dword of k is 128 bytes.
constexpr uint32_t kInt8BatchGroups = 3072;
constexpr uint32_t kInt8BatchPanels = 64;

// With more groups in a panel the GEMM, which multiplies all 32 columns for each of them, loses against the lanes.
constexpr int32_t kInt8MaxGemmGroups = 8;

// Rows of 32 sums that can wait for more k.
constexpr uint32_t kInt8PartialRows = 4 * kInt8MaxGemmGroups * kMaxInt8Rows;

// k that are decoded at once, so that the ids of all panels that are decoded side by side stay in the first-level cache.
constexpr uint32_t kInt8Piece = 128;

constexpr uint32_t kInt8Taps = 2048;

// The scratch as the integer kernels see it.
struct alignas(64) Int8Scratch {
  uint8_t panels[kInt8BatchGroups * kInt8GroupBytes];
  union {
    Int8Epilogue epilogues[kInt8BatchPanels];
    FloatEpilogue float_epilogues[kInt8BatchPanels];
  };
  uint8_t rows[kMaxInt8Rows * kInt8RowStride];  // packed A
  int32_t partial[kInt8PartialRows * kLanes];
  int8_t ids[kMaxSideBySide][(kInt8Piece + 4) * kLanes];  // room to fill up the last dword of k
  int8_t outside[kInt8RowStride];               // zero points
  const int8_t* taps[kInt8Taps];                // lanes only, as the next
  int8_t picked[kInt8Taps * kLanes];

  static Int8Scratch* Of(Scratch* scratch) { return reinterpret_cast<Int8Scratch*>(scratch); }
};
static_assert(sizeof(Int8Scratch) <= sizeof(Scratch), "");

// A layer of either kind.
struct Int8Layer {
  const PackedWeight* weight;
  ConvGeometry geometry;
  const FixedInt8* fixed;  // null for the other kind
  const ConvLayer* dynamic;
  const Quantization* images;  // of a dynamic layer: one for each of geometry.batch
};

Status RunInt8Layer(Runtime* runtime, const Int8Layer& layer);

// Elements k..k+num_k of the windows of `count` output positions from m, of one group of channels.
struct Int8Rows {
  int32_t group;
  int64_t m;
  uint32_t count, k, num_k;
};

// To scratch->rows. quantization: of each row, for a dynamic layer.
void PackInt8Rows(const Int8Layer& layer, const Int8Rows& rows, const Quantization* quantization, Int8Scratch* scratch);

// Whether the rows of A lie in the input one after the other: nothing is ever outside.
inline bool RowsAreNeighbours(const ConvGeometry& g) {
  return g.filter_height == 1 && g.filter_width == 1 && g.stride_height == 1 && g.stride_width == 1;
}

// What lies packed in scratch->panels: panel panels[i] at i * slot_groups * kInt8GroupBytes.
struct Int8Batch {
  uint32_t panels[kInt8BatchPanels];
  uint32_t num_panels;
  uint32_t slot_groups;
  uint32_t first_k;
  uint32_t num_k;
  bool first;  // the sums begin with the bias, else in scratch->partial
  bool last;   // no k follows: time for the epilogue
  int64_t begin_position;
  int64_t end_position;
};

inline const int8_t* ImageOf(const Int8Layer& layer, const Position& position) {
  const ConvGeometry& g = layer.geometry;
  return layer.fixed->x + static_cast<int64_t>(position.batch) * g.in_height * g.in_width * g.in_channels;
}

// How a batch is packed and multiplied: GEMM or lanes.
struct Int8Method {
  uint32_t group;   // k in a dword
  int32_t offset;   // Int8Kernels::offset, or 0
  void (*pack)(const int8_t* ids, size_t groups, uint8_t* to, int32_t* sums);
  void (*multiply)(const Int8Layer& layer, const Int8Batch& batch, Int8Scratch* scratch);
  uint32_t max_groups;         // of a whole panel in the scratch
  uint32_t position_step;      // for the schedule
  uint32_t partial_positions;  // of a batch that is not both first and last
};

Int8Method Int8LanesMethod(const ConvGeometry& geometry);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_PARTS_H_
