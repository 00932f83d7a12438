// The input of an integer layer as elements of A, a part at a time, in the scratch: the strip. Floats are quantized and borders filled on the way in, once
// for all panels that are multiplied with it, and the GEMM reads its rows there.
//
// READ FIRST: what a strip holds
// * pixels, where the filter is 1x1: the pixel of every output position, one after the other.
// * lines, else: whole lines of the input, with their borders, for some whole lines of the output.
// * windows, where not even one line fits, or k comes in pieces: the windows of one tile of rows. Only these are packed again for every
//   group of channels and every batch.
#ifndef TFLITE_SMART_KERNELS_INT8_INPUT_H_
#define TFLITE_SMART_KERNELS_INT8_INPUT_H_

#include "kernels/int8_parts.h"

namespace tflite_smart {

constexpr uint32_t kMaxInt8Runs = 64;

// How the GEMM cuts the k of a layer.
Int8Runs Int8RunsOf(const ConvGeometry& geometry);

class Int8Input {
 public:
  // pieces: k comes in pieces.
  Int8Input(const Int8Layer& layer, bool pieces, Int8Scratch* scratch);

  // Makes output positions from m on available, at most up to `end`. Returns where they end.
  int64_t Fill(int64_t m, int64_t end);

  // Fills in a, runs, num_runs, run_groups and quantization of `tile` for its rows, output positions from m: dwords first_group.. of one group
  // of channels. Valid until the next call. They have been made available.
  void SetRows(int64_t m, int32_t channel_group, uint32_t first_group, uint32_t num_groups, Int8GemmTile* tile);

 private:
  enum class Kind { kPixels, kLines, kWindows };

  void FillPixels(int64_t m, int64_t count);
  int64_t FillLines(int64_t m, int64_t end);
  void FillLine(const Quantization& quantization, int64_t image, int32_t y, uint8_t* to) const;
  void PackWindow(const Position& position, const Quantization& quantization, uint8_t* to) const;
  void Convert(int64_t from, size_t count, const Quantization& quantization, uint8_t* to) const;
  void SetImage(int32_t image, uint32_t first);
  void FillOutside(size_t count, const Quantization& quantization, uint8_t* to) const;
  const Quantization& QuantizationOf(int32_t image) const;

  const Int8Layer& layer_;
  const ConvGeometry& g_;
  const Int8Kernels& kernels_;
  const Int8Runs runs_;
  const uint32_t element_bytes_;
  uint8_t* const strip_;
  Kind kind_;
  int64_t image_elements_;
  uint32_t pitch_ = 0;  // bytes from pixel to pixel, line to line or window to window
  int32_t line_pixels_ = 0, reach_ = 0;   // of lines: their length, and how many a window has
  int64_t begin_ = 0, end_ = 0;           // output positions in the strip
  int32_t first_line_ = 0;
  int32_t window_channels_ = 0;           // of windows: their group of channels and dwords
  uint32_t window_group_ = 0, window_groups_ = 0;
  uint32_t offsets_[kMaxInt8Runs];
  const uint8_t* rows_[kMaxInt8Rows];
  Quantization quantization_[kMaxInt8Rows];
  int32_t image_ = -1;                    // which all of these are of, or -1
  int64_t next_m_ = 0;                    // behind the last rows
  Position next_;
  Quantization fixed_ = {};
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_INT8_INPUT_H_
