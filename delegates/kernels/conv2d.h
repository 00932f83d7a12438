// Convolution, depthwise convolution and fully connected in float32, from a packed weight. They are one thing:
// * DepthwiseConv2D is a convolution whose groups have one input channel each,
// * FullyConnected is a 1x1 convolution over images of one pixel.
//
// Five kernels do the work, chosen by what a panel of 32 output channels looks like:
// * GEMM (conv2d.cc): rows of input are packed for a few positions at a time, never a whole im2col, and multiplied with the panel. A panel
//   that straddles groups is multiplied once per group, each time for that group's columns.
// * Winograd (conv2d_winograd.cc): 3x3 convolutions, on the same GEMM.
// * vector (conv2d_vector.cc): one position, as in a fully connected layer for one row.
// * depthwise (conv2d_depthwise.cc): lane j of the output needs nothing but lane j of the input.
// * lanes (conv2d_lanes.cc): where a panel would straddle many groups, each output channel reads its own few input channels.
#ifndef TFLITE_SMART_KERNELS_CONV2D_H_
#define TFLITE_SMART_KERNELS_CONV2D_H_

#include "core/packed.h"
#include "core/runtime.h"
#include "kernels/glue.h"

namespace tflite_smart {

// NHWC. Filters are (h, w, i) with i < filter_in; in_channels / filter_in groups.
struct ConvGeometry {
  int32_t batch, in_height, in_width, in_channels;
  int32_t out_height, out_width, out_channels;
  int32_t filter_height, filter_width, filter_in;
  int32_t stride_height, stride_width;
  int32_t dilation_height, dilation_width;
  int32_t pad_top, pad_left;

  int64_t positions() const { return static_cast<int64_t>(batch) * out_height * out_width; }
  int32_t groups() const { return in_channels / filter_in; }
  int32_t channels_per_group() const { return out_channels / groups(); }
};

// `same`: as many zeros as TFLite's SAME asks for. Otherwise so many, fewer than the filter has taps on that axis.
struct Padding {
  bool same;
  int32_t top, bottom, left, right;
};

// Fills out_height, out_width, pad_top and pad_left from the rest, by TFLite's rules. False if the filter is larger than the padded image.
bool SetOutputSize(const Padding& padding, ConvGeometry* geometry);

// The geometry as which FullyConnected runs: `rows` vectors of weight.channel_elements.
ConvGeometry FullyConnectedGeometry(const PackedWeight& weight, int32_t rows);

struct ConvLayer {
  const PackedWeight* weight;  // out_channels x (filter_height * filter_width * filter_in); not kInteger
  ConvGeometry geometry;
  Activation activation;
  const float* bias;  // out_channels, or null
  const float* x;
  float* y;
};

// Whether some lines of one image's output, computed alone, have the same bits: Winograd's tiles straddle lines.
bool IsLineByLine(const PackedWeight& weight, const ConvGeometry& geometry);

// The caller has checked that weight, geometry and buffers fit together.
Status RunConv2D(Runtime* runtime, const ConvLayer& layer);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_CONV2D_H_
