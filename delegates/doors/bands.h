// Ops one after another, a band of lines at a time: the tensors between them, often the largest of a network, are never whole.
//
// READ FIRST
// * The images of a chain are its input, the output of every op, and so its output. The first and the last are whole; of each other there is a buffer of
//   some neighbouring lines.
// * In a turn the last op makes so many new lines, and each op before it those that they need and that are not there yet. No line is made
//   twice: what the next turn needs again moves to the beginning of its buffer.
// * Weights are decoded once a turn. So a turn has positions enough for the decoding not to count.
#ifndef TFLITE_SMART_DOORS_BANDS_H_
#define TFLITE_SMART_DOORS_BANDS_H_

#include <cstddef>
#include <vector>

#include "doors/op.h"

namespace tflite_smart {

// The window of a convolution or a pool, and the geometry of some of its lines.
LineWindow WindowOf(const ConvGeometry& geometry);
ConvGeometry GeometryOf(ConvGeometry geometry, const Lines& x, const Lines& y);

// When bands pay, and how large they are.
struct BandLimits {
  size_t tensor_bytes = 1 << 20;  // of a tensor between two ops, at least: a core's cache holds smaller ones, and they are little of a model's memory
  size_t buffer_bytes = 2 << 20;  // of a chain, at most: half as much saves a few hundred kilobytes, and where bands meet threads read each other's lines
  int32_t positions = 192;        // of the output in a turn, however large that makes the buffers: see kMinSparePositions in kernels/panel_schedule.cc
};

class Bands {
 public:
  // Of float32: `height` lines of `width` pixels in `line` floats.
  struct Image {
    int32_t height, width;
    int64_t line;
  };

  explicit Bands(const Image& input) : images_{{input, {}, input.height, nullptr, 0, 0, 0}} {}

  // The output of the next op, made through `window` from the image before.
  void Add(const LineWindow& window, const Image& output) { images_.push_back({output, window, output.height, nullptr, 0, 0, 0}); }

  // Call when all are there. False if that saves less than half of the tensors' memory.
  bool Plan(const BandLimits& limits);

  // Of image i, as much of it as is there at once: 0 is the input.
  size_t bytes(size_t i) const { return static_cast<size_t>(images_[i].capacity * images_[i].image.line) * sizeof(float); }

  // Before the first turn: where image i lies.
  void Place(size_t i, float* data);

  // Begins a turn. False if all lines are there.
  bool Turn();

  // What op i = 0, 1, ... has to do in this turn, after those before it. False if nothing.
  bool Advance(size_t i, Lines* x, Lines* y);

 private:
  struct Buffer {
    Image image;
    LineWindow window;
    int32_t capacity;  // lines
    float* data;
    int32_t first, end;  // lines that are there
    int32_t goal;        // end of this turn
  };

  size_t Divide(int32_t lines);
  void MakeRoom(size_t i);

  std::vector<Buffer> images_;
  int32_t lines_ = 1;  // of the output, in a turn
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_BANDS_H_
