#include "doors/bands.h"

#include <algorithm>
#include <cstring>

namespace tflite_smart {
namespace {

// The first line that line y needs.
int32_t FirstLine(const LineWindow& window, int32_t y) { return std::max(0, y * window.stride - window.pad_top); }

}  // namespace

LineWindow WindowOf(const ConvGeometry& g) { return {g.stride_height, (g.filter_height - 1) * g.dilation_height + 1, g.pad_top}; }

ConvGeometry GeometryOf(ConvGeometry g, const Lines& x, const Lines& y) {
  g.pad_top += x.first - y.first * g.stride_height;
  g.in_height = x.count;
  g.out_height = y.count;
  return g;
}

// Back from the output: n new lines need n - 1 strides and a window, and the lines between windows are made as well. Returns the bytes of
// all buffers.
size_t Bands::Divide(int32_t lines) {
  int64_t capacity = lines_ = lines;
  size_t total = 0;
  for (size_t i = images_.size() - 1; i-- > 1;) {
    const LineWindow& window = images_[i + 1].window;
    capacity = std::min<int64_t>((capacity - 1) * window.stride + std::max(window.stride, window.reach), images_[i].image.height);
    images_[i].capacity = static_cast<int32_t>(capacity);
    total += bytes(i);
  }
  return total;
}

bool Bands::Plan(const BandLimits& limits) {
  const Image& output = images_.back().image;
  size_t whole = 0;
  for (size_t i = 1; i + 1 < images_.size(); ++i) whole += bytes(i);
  const size_t most = std::min(limits.buffer_bytes, whole / 2);
  int32_t lines = 1;
  while (lines < output.height && (lines * static_cast<int64_t>(output.width) < limits.positions || Divide(2 * lines) <= most)) lines *= 2;
  return Divide(lines) <= whole / 2;
}

void Bands::Place(size_t i, float* data) {
  Buffer& b = images_[i];
  b.data = data;
  b.first = 0;
  b.end = i == 0 ? b.image.height : 0;
}

bool Bands::Turn() {
  if (images_.back().end == images_.back().image.height) return false;
  int32_t end = images_.back().end + lines_;
  for (size_t i = images_.size(); --i > 0;) {
    Buffer& b = images_[i];
    b.goal = std::max(b.end, std::min(end, b.image.height));
    end = (b.goal - 1) * b.window.stride - b.window.pad_top + b.window.reach;
  }
  return true;
}

// The lines that no window from here on needs leave the buffer.
void Bands::MakeRoom(size_t i) {
  Buffer& b = images_[i];
  const Buffer& next = images_[i + 1];
  const int32_t first = std::min(b.end, std::max(b.first, FirstLine(next.window, next.end)));
  std::memmove(b.data, b.data + (first - b.first) * b.image.line, static_cast<size_t>((b.end - first) * b.image.line) * sizeof(float));
  b.first = first;
}

bool Bands::Advance(size_t i, Lines* x, Lines* y) {
  const Buffer& in = images_[i];
  Buffer& out = images_[i + 1];
  if (out.goal == out.end) return false;
  if (i + 2 < images_.size()) MakeRoom(i + 1);
  const int32_t first = std::max(in.first, FirstLine(out.window, out.end));
  *x = {in.data + (first - in.first) * in.image.line, first, in.end - first};
  *y = {out.data + (out.end - out.first) * out.image.line, out.end, out.goal - out.end};
  out.end = out.goal;
  return true;
}

}  // namespace tflite_smart
