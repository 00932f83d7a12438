// What the files int8_*.cc share that are the same for every instruction set.
#ifndef TFLITE_SMART_KERNELS_INT8_PARTS_H_
#define TFLITE_SMART_KERNELS_INT8_PARTS_H_

#include "kernels/conv2d_parts.h"
#include "kernels/int8_conv2d.h"
#include "kernels/panel_reader.h"

namespace tflite_smart {

// Packed panels that are multiplied together, at most: 256 KB, so that they and the strip stay in a second-level cache. A dword of k is 128 bytes.
constexpr uint32_t kInt8BatchGroups = 2048;

// Or, where that is less, as many panels as decode side by side, which takes a third of the time: of up to 4608 k each where four k are a dword.
constexpr uint32_t kInt8MostGroups = 4608;
constexpr uint32_t kInt8BatchPanels = 64;

// Room for elements of A, see int8_input.h, and what may be written or read behind them.
constexpr uint32_t kInt8StripBytes = 1 << 18;
constexpr uint32_t kInt8StripSlack = 128;

// With more groups in a panel the GEMM, which multiplies all 32 columns for each of them, loses against the lanes.
constexpr int32_t kInt8MaxGemmGroups = 8;

// Rows of 32 sums that can wait for more k.
constexpr uint32_t kInt8PartialRows = 4 * kInt8MaxGemmGroups * kMaxInt8Rows;

// k that are decoded at once, so that the ids of all panels that are decoded side by side stay in the first-level cache.
constexpr uint32_t kInt8Piece = 128;

constexpr uint32_t kInt8Taps = 2048;

// The scratch as the integer kernels see it.
struct alignas(64) Int8Scratch {
  uint8_t panels[kInt8MostGroups * kInt8GroupBytes];
  union {
    Int8Epilogue epilogues[kInt8BatchPanels];
    struct {
      FloatEpilogue float_epilogues[kInt8BatchPanels];
      alignas(64) int32_t id_sums[kInt8BatchPanels][kLanes];
    };
  };
  int32_t partial[kInt8PartialRows * kLanes];
  int8_t ids[kMaxSideBySide][(kInt8Piece + 4) * kLanes];  // room to fill up the last dword of k
  union {
    uint8_t strip[kInt8StripBytes + kInt8StripSlack];
    struct {
      int8_t outside[kLanes];  // zero points
      const int8_t* taps[kInt8Taps];
      int8_t picked[kInt8Taps * kLanes];
    } lanes;
  };

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
  KeptPanels* kept;            // null: panels are decoded and packed whenever they are wanted
  Epilogue floats;             // of a dynamic layer, from channel 0; without a bias 32 zeros
};

Status RunInt8Layer(Runtime* runtime, Int8Layer layer);

class Int8Input;

// What lies packed: panel panels[i] at packed + i * slot_groups * kInt8GroupBytes.
struct Int8Batch {
  uint32_t panels[kInt8BatchPanels];
  uint32_t num_panels;
  uint32_t slot_groups;
  uint32_t first_group;  // these dwords of k
  uint32_t num_groups;
  bool first;  // the sums begin with the bias, else in scratch->partial
  bool last;   // no k follows: time for the epilogue
  int64_t begin_position;
  int64_t end_position;
  const uint8_t* packed;

  const uint8_t* at(uint32_t i) const { return packed + i * static_cast<size_t>(slot_groups) * kInt8GroupBytes; }
};

inline const int8_t* ImageOf(const Int8Layer& layer, const Position& position) {
  const ConvGeometry& g = layer.geometry;
  return layer.fixed->x + static_cast<int64_t>(position.batch) * g.in_height * g.in_width * g.in_channels;
}

// k as the kernels see it: runs of neighbours in the input, each rounded up to dwords. Lanes have no runs: all of k is one.
struct Int8Runs {
  uint32_t count;
  uint32_t elements;  // k
  uint32_t groups;    // dwords

  uint32_t all_groups() const { return count * groups; }
};

// How a batch is packed and multiplied: GEMM or lanes.
struct Int8Method {
  uint32_t group;   // k in a dword
  int32_t offset;   // Int8Kernels::offset, or 0
  Int8Runs runs;
  PackPanel pack;
  void (*multiply)(const Int8Layer& layer, const Int8Batch& batch, Int8Input* input, Int8Scratch* scratch);
  uint32_t max_groups;         // of a whole panel in the scratch
  uint32_t max_row_groups;     // of a row of A, where the panel lies elsewhere
  uint32_t position_step;      // for the schedule
  uint32_t partial_positions;  // of a batch of one panel that is not both first and last
};

// Whether dwords begin anew in the middle of a line of k: the rows of ids are then no dwords as they come.
inline bool HasGaps(const Int8Method& method) { return method.runs.count > 1 && method.runs.elements % method.group != 0; }

Int8Method Int8LanesMethod(const Int8Layer& layer);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_PARTS_H_
