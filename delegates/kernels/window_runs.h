// Where a filter's window lies in the input, as runs of neighbouring elements: what packing a row of A is made of, whatever the type.
#ifndef TFLITE_SMART_KERNELS_WINDOW_RUNS_H_
#define TFLITE_SMART_KERNELS_WINDOW_RUNS_H_

#include "kernels/conv2d.h"

namespace tflite_smart {

// Calls run(offset, length) for the elements k..k+count, in this order, of the window that begins at (y0, x0): `offset` counts elements from
// the group's first one in the image; -1 for those outside.
template <typename Run>
inline void ForEachRun(const ConvGeometry& g, int32_t y0, int32_t x0, uint32_t k, uint32_t count, const Run& run) {
  const uint32_t line = static_cast<uint32_t>(g.filter_width) * static_cast<uint32_t>(g.filter_in);
  // A line of the window is contiguous in the image if the pixels are neighbours and the group is all of them.
  const bool whole_lines = g.dilation_width == 1 && g.filter_in == g.in_channels && x0 >= 0 && x0 + g.filter_width <= g.in_width;
  int32_t y = y0;
  uint32_t in_line = k;
  if (k >= line) {  // most calls begin with the window, and a division takes longer than a short run
    y += static_cast<int32_t>(k / line) * g.dilation_height;
    in_line = k % line;
  }
  while (count > 0) {
    uint32_t length = line - in_line;
    int64_t offset = -1;
    if (y >= 0 && y < g.in_height) {
      const int64_t image_line = static_cast<int64_t>(y) * g.in_width;
      if (whole_lines) {
        offset = (image_line + x0) * g.in_channels + in_line;
      } else {
        const uint32_t i = in_line % static_cast<uint32_t>(g.filter_in);
        const int32_t x = x0 + static_cast<int32_t>(in_line / static_cast<uint32_t>(g.filter_in)) * g.dilation_width;
        length = static_cast<uint32_t>(g.filter_in) - i;
        if (x >= 0 && x < g.in_width) offset = (image_line + x) * g.in_channels + i;
      }
    }
    if (length > count) length = count;
    run(offset, length);
    count -= length;
    in_line += length;
    if (in_line == line) {
      in_line = 0;
      y += g.dilation_height;
    }
  }
}

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_WINDOW_RUNS_H_
