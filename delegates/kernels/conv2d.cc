#include "kernels/conv2d.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// With more groups in a panel the GEMM, which multiplies all 32 columns for each of them, loses against the lanes.
constexpr int32_t kMaxGemmGroups = 8;

constexpr float kNoBias[kLanes] = {};

// The elements k..k+count of one position's filter window, which is what a row of A is.
void PackRow(const ConvGeometry& g, const float* group_image, int32_t y0, int32_t x0, uint32_t k, uint32_t count, float* out) {
  const uint32_t line = static_cast<uint32_t>(g.filter_width) * g.filter_in;
  // A line of the window is contiguous in the image if the pixels are neighbours and the group is all of them.
  const bool whole_lines = g.dilation_width == 1 && g.filter_in == g.in_channels && x0 >= 0 && x0 + g.filter_width <= g.in_width;
  while (count > 0) {
    const int32_t y = y0 + static_cast<int32_t>(k / line) * g.dilation_height;
    const uint32_t in_line = k % line;
    uint32_t run = line - in_line;
    const float* from = nullptr;
    if (y >= 0 && y < g.in_height) {
      const float* image_line = group_image + static_cast<int64_t>(y) * g.in_width * g.in_channels;
      if (whole_lines) {
        from = image_line + static_cast<int64_t>(x0) * g.in_channels + in_line;
      } else {
        const uint32_t i = in_line % g.filter_in;
        const int32_t x = x0 + static_cast<int32_t>(in_line / g.filter_in) * g.dilation_width;
        run = g.filter_in - i;
        if (x >= 0 && x < g.in_width) from = image_line + static_cast<int64_t>(x) * g.in_channels + i;
      }
    }
    run = std::min(run, count);
    if (from != nullptr) {
      std::memcpy(out, from, run * sizeof(float));
    } else {
      std::memset(out, 0, run * sizeof(float));
    }
    out += run;
    k += run;
    count -= run;
  }
}

void PackRows(const ConvLayer& layer, int32_t group, Position position, uint32_t rows, uint32_t k, uint32_t count, float* out) {
  const ConvGeometry& g = layer.geometry;
  const bool one_pixel = g.filter_height == 1 && g.filter_width == 1;  // then nothing is ever outside, and a row is one run
  for (uint32_t r = 0; r < rows; ++r) {
    const float* image = position.Image(g, layer.x) + static_cast<int64_t>(group) * g.filter_in;
    if (one_pixel) {
      const int64_t pixel = static_cast<int64_t>(position.InputY(g)) * g.in_width + position.InputX(g);
      std::memcpy(out + r * kPackedRowStride, image + pixel * g.in_channels + k, count * sizeof(float));
    } else {
      PackRow(g, image, position.InputY(g), position.InputX(g), k, count, out + r * kPackedRowStride);
    }
    position.Advance(g);
  }
}

// k..k+count of the batch's panels at the rows of output positions from `m`.
void MultiplyRows(const ConvLayer& layer, const Batch& batch, uint32_t k, uint32_t count, int64_t m, uint32_t rows, Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const FloatKernels& kernels = *ActiveIsa().f32;
  const int32_t per_group = g.channels_per_group();
  const Position position(g, m);
  GemmTile tile;
  tile.a = scratch->rows;
  tile.k = count;
  tile.c_stride = static_cast<size_t>(g.out_channels);
  tile.rows = rows;
  tile.accumulate = batch.first_k + k != 0;
  const bool last = batch.last && k + count == batch.num_k;
  int32_t packed_group = -1;
  for (uint32_t i = 0; i < batch.num_panels; ++i) {
    const int32_t first = static_cast<int32_t>((batch.first_panel + i) * kLanes);
    const int32_t end = std::min(first + static_cast<int32_t>(kLanes), g.out_channels);
    const Epilogue epilogue = PanelEpilogue(layer, static_cast<uint32_t>(first));
    tile.b = scratch->panels + (i * static_cast<size_t>(batch.slot_k) + k) * kLanes;
    tile.c = layer.y + m * g.out_channels + first;
    tile.epilogue = last ? &epilogue : nullptr;
    for (int32_t group = first / per_group; group * per_group < end; ++group) {
      if (group != packed_group) PackRows(layer, group, position, rows, batch.first_k + k, count, scratch->rows);
      packed_group = group;
      tile.first_column = static_cast<uint32_t>(std::max(group * per_group - first, 0));
      tile.end_column = static_cast<uint32_t>(std::min((group + 1) * per_group, end) - first);
      kernels.gemm(tile);
    }
  }
}

void MultiplyGemm(const void* context, const Batch& batch, Scratch* scratch) {
  const ConvLayer& layer = *static_cast<const ConvLayer*>(context);
  const uint32_t gemm_rows = ActiveIsa().f32->gemm_rows;
  const uint32_t chunks = (batch.num_k + kMaxChunk - 1) / kMaxChunk;
  const uint32_t chunk = (batch.num_k + chunks - 1) / chunks;
  for (int64_t m = batch.begin_position; m < batch.end_position; m += gemm_rows) {
    const uint32_t rows = static_cast<uint32_t>(std::min<int64_t>(gemm_rows, batch.end_position - m));
    for (uint32_t k = 0; k < batch.num_k; k += chunk) {
      MultiplyRows(layer, batch, k, std::min(chunk, batch.num_k - k), m, rows, scratch);
    }
  }
}

// One axis of TFLite's ComputePaddingHeightWidth. False if there is no output.
bool OutputSize(bool same_padding, int32_t in, int32_t filter, int32_t stride, int32_t dilation, int32_t* out, int32_t* pad) {
  constexpr int64_t kMax = 1 << 30;  // so that no coordinate below overflows an int32
  const int64_t reach = static_cast<int64_t>(filter - 1) * dilation + 1;
  if (in > kMax || stride > kMax || reach > kMax) return false;
  const int64_t size = same_padding ? (static_cast<int64_t>(in) + stride - 1) / stride : (static_cast<int64_t>(in) + stride - reach) / stride;
  if (size < 1) return false;
  const int64_t padding = (size - 1) * stride + reach - in;
  *out = static_cast<int32_t>(size);
  *pad = padding > 0 ? static_cast<int32_t>(padding / 2) : 0;
  return true;
}

}  // namespace

bool SetOutputSize(bool same_padding, ConvGeometry* g) {
  return OutputSize(same_padding, g->in_height, g->filter_height, g->stride_height, g->dilation_height, &g->out_height, &g->pad_top) &&
         OutputSize(same_padding, g->in_width, g->filter_width, g->stride_width, g->dilation_width, &g->out_width, &g->pad_left);
}

ConvGeometry FullyConnectedGeometry(const PackedWeight& weight, int32_t rows) {
  ConvGeometry g;
  g.batch = rows;
  g.in_channels = g.filter_in = static_cast<int32_t>(weight.channel_elements);
  g.out_channels = static_cast<int32_t>(weight.num_channels);
  g.in_height = g.in_width = g.out_height = g.out_width = g.filter_height = g.filter_width = 1;
  g.stride_height = g.stride_width = g.dilation_height = g.dilation_width = 1;
  g.pad_top = g.pad_left = 0;
  return g;
}

Epilogue PanelEpilogue(const ConvLayer& layer, uint32_t first_channel) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Epilogue e = {layer.weight->scales + first_channel, layer.bias == nullptr ? kNoBias : layer.bias + first_channel, -kInfinity, kInfinity};
  switch (layer.activation) {
    case Activation::kNone: break;
    case Activation::kRelu: e.min = 0.0f; break;
    case Activation::kReluN1To1: e.min = -1.0f; e.max = 1.0f; break;
    case Activation::kRelu6: e.min = 0.0f; e.max = 6.0f; break;
  }
  return e;
}

int32_t MaxGroupsPerPanel(const ConvGeometry& g) {
  const int32_t width = std::min(g.out_channels, static_cast<int32_t>(kLanes));
  return std::min(g.groups(), (width + g.channels_per_group() - 1) / g.channels_per_group());
}

Status RunConv2D(Runtime* runtime, const ConvLayer& layer) {
  if (MaxGroupsPerPanel(layer.geometry) > kMaxGemmGroups) return RunConv2DLanes(runtime, layer);
  const Schedule schedule = MakeSchedule(*layer.weight, layer.geometry.positions(), runtime->threads.num_threads(), kMaxPiece,
                                         ActiveIsa().f32->gemm_rows);
  return RunSchedule(runtime, *layer.weight, schedule, MultiplyGemm, &layer);
}

}  // namespace tflite_smart
