// What the files conv2d*.cc share.
#ifndef TFLITE_SMART_KERNELS_CONV2D_PARTS_H_
#define TFLITE_SMART_KERNELS_CONV2D_PARTS_H_

#include <algorithm>

#include "kernels/conv2d.h"
#include "kernels/float_kernels.h"

namespace tflite_smart {

// An output position and where its filter begins in the input.
struct Position {
  int32_t batch = 0, y = 0, x = 0;

  Position() = default;
  Position(const ConvGeometry& g, int64_t index)
      : batch(static_cast<int32_t>(index / (static_cast<int64_t>(g.out_height) * g.out_width))),
        y(static_cast<int32_t>(index / g.out_width % g.out_height)),
        x(static_cast<int32_t>(index % g.out_width)) {}

  void Advance(const ConvGeometry& g) {
    if (++x < g.out_width) return;
    x = 0;
    if (++y < g.out_height) return;
    y = 0;
    ++batch;
  }

  // By several, at most to the end of the line.
  void Advance(const ConvGeometry& g, int32_t count) {
    x += count - 1;
    Advance(g);
  }

  const float* Image(const ConvGeometry& g, const float* input) const {
    return input + static_cast<int64_t>(batch) * g.in_height * g.in_width * g.in_channels;
  }
  int32_t InputY(const ConvGeometry& g) const { return y * g.stride_height - g.pad_top; }
  int32_t InputX(const ConvGeometry& g) const { return x * g.stride_width - g.pad_left; }
};

// The positions of a line of the output whose windows cross neither the left nor the right border: first <= x < end.
struct WholeWindows {
  int32_t first, end;

  explicit WholeWindows(const ConvGeometry& g) : first((g.pad_left + g.stride_width - 1) / g.stride_width), end(0) {
    const int32_t last_x = g.in_width - 1 - (g.filter_width - 1) * g.dilation_width + g.pad_left;
    if (last_x >= 0) end = std::min(g.out_width, last_x / g.stride_width + 1);
  }
};

// The rows of the next block of `left`: a height that the kernel has, so that it reads no others where they lie; 0 if fewer are left than any has.
uint32_t WholeBlock(int64_t left);

// Where positions may be cut for the GEMM.
uint32_t GemmPositionStep();

// Of the panel that begins at output channel `first_channel`.
Epilogue PanelEpilogue(const ConvLayer& layer, uint32_t first_channel);

// Groups that the panel of 32 channels at `first_channel` touches, at most; what decides between the two kernels.
int32_t MaxGroupsPerPanel(const ConvGeometry& geometry);

// Depthwise with one output per input channel, and a window that is decoded at once.
bool IsDepthwise(const ConvGeometry& geometry);
Status RunConv2DDepthwise(Runtime* runtime, const ConvLayer& layer);

// A 3x3 convolution for which Winograd's algorithm pays.
bool IsWinograd(const ConvLayer& layer);
Status RunConv2DWinograd(Runtime* runtime, const ConvLayer& layer);

// One row of A, and weights that need no table.
bool IsVector(const ConvLayer& layer);
Status RunConv2DVector(Runtime* runtime, const ConvLayer& layer);

Status RunConv2DLanes(Runtime* runtime, const ConvLayer& layer);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_CONV2D_PARTS_H_
