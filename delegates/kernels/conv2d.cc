#include "kernels/conv2d.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// With more groups in a panel the GEMM, which multiplies all 32 columns for each of them, loses against the lanes.
constexpr int32_t kMaxGemmGroups = 8;

// Of fewer rows the kernel rounds the sums otherwise. So blocks are of as many or more, but for the last rows of all, wherever positions are cut.
constexpr uint32_t kMinBlockRows = 4;

constexpr float kNoBias[kLanes] = {};

// Most runs are too short for a call of memcpy.
inline void CopyRun(const float* from, uint32_t count, float* out) {
  constexpr uint32_t kLongRun = 64, kStep = 4;
  if (count >= kLongRun) {
    std::memcpy(out, from, count * sizeof(float));
    return;
  }
  uint32_t i = 0;
  for (; i + kStep <= count; i += kStep) std::memcpy(out + i, from + i, kStep * sizeof(float));
  for (; i < count; ++i) out[i] = from[i];
}

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
      CopyRun(from, run, out);
    } else {
      std::memset(out, 0, run * sizeof(float));
    }
    out += run;
    k += run;
    count -= run;
  }
}

// A whole window inside the image, line by line, in steps of kStep floats: what one writes too many the next line writes again, and
// the caller knows that they can be read.
void PackWindow(const float* from, uint32_t lines, uint32_t line, size_t pitch, float* out) {
  constexpr uint32_t kStep = 4;
  for (uint32_t i = 0; i < lines; ++i, from += pitch, out += line) {
    for (uint32_t j = 0; j < line; j += kStep) std::memcpy(out + j, from + j, kStep * sizeof(float));
  }
}

// Whether PackWindow can pack this position.
bool IsWholeWindow(const ConvGeometry& g, int32_t y0, int32_t x0) {
  return x0 >= 0 && y0 >= 0 && x0 + g.filter_width <= g.in_width && y0 + g.filter_height < g.in_height;  // so a line of pixels follows
}

void PackRows(const ConvLayer& layer, int32_t group, Position position, uint32_t rows, uint32_t k, uint32_t count, float* out) {
  const ConvGeometry& g = layer.geometry;
  const size_t pitch = static_cast<size_t>(g.in_width) * static_cast<size_t>(g.in_channels);
  // Lines of few channels are many and short, and a division for each would cost more than copying it.
  const uint32_t line = static_cast<uint32_t>(g.filter_width * g.filter_in);
  const bool short_lines = line <= 64 && pitch >= 4 && count == layer.weight->channel_elements && g.filter_in == g.in_channels &&
                           g.dilation_width == 1 && g.dilation_height == 1;
  const bool one_pixel = g.filter_height == 1 && g.filter_width == 1;  // then nothing is ever outside, and a row is one run
  for (uint32_t r = 0; r < rows; ++r) {
    const float* image = position.Image(g, layer.x) + static_cast<int64_t>(group) * g.filter_in;
    if (one_pixel) {
      const int64_t pixel = static_cast<int64_t>(position.InputY(g)) * g.in_width + position.InputX(g);
      CopyRun(image + pixel * g.in_channels + k, count, out + r * kPackedRowStride);
    } else if (short_lines && IsWholeWindow(g, position.InputY(g), position.InputX(g))) {
      const float* from = image + (static_cast<int64_t>(position.InputY(g)) * g.in_width + position.InputX(g)) * g.in_channels;
      PackWindow(from, static_cast<uint32_t>(g.filter_height), line, pitch, out + r * kPackedRowStride);
    } else {
      PackRow(g, image, position.InputY(g), position.InputX(g), k, count, out + r * kPackedRowStride);
    }
    position.Advance(g);
  }
}

// Neighbouring output positions, and where the first one's window lies if the rows of A need no packing: all there are in the kernel's tile,
// whole windows of one line, or pixels that follow each other.
struct Rows {
  int64_t m;
  uint32_t count;
  const float* in_place;
};

bool RowsAreInput(const ConvGeometry& g) {
  return g.filter_height == 1 && g.filter_width == 1 && g.stride_height == 1 && g.stride_width == 1 && g.filter_in == g.in_channels;
}

// k..k+count of the batch's panels at the rows of some output positions.
void MultiplyRows(const ConvLayer& layer, const Batch& batch, uint32_t k, uint32_t count, const Rows& rows, Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const FloatKernels& kernels = *ActiveIsa().f32;
  const int32_t per_group = g.channels_per_group();
  const bool in_place = rows.in_place != nullptr;
  GemmTile tile;
  tile.a = in_place ? rows.in_place : scratch->rows;
  tile.a_stride = in_place ? static_cast<size_t>(g.stride_width) * static_cast<size_t>(g.in_channels) : kPackedRowStride;
  if (in_place) tile.lines = static_cast<uint32_t>(g.filter_height);
  tile.line_stride = static_cast<size_t>(g.in_width) * static_cast<size_t>(g.in_channels);
  tile.k = count / tile.lines;
  tile.c_stride = static_cast<size_t>(g.out_channels);
  tile.rows = rows.count;
  tile.accumulate = batch.first_k + k != 0;
  int32_t first = static_cast<int32_t>(batch.first_panel * kLanes);
  Epilogue epilogue = PanelEpilogue(layer, static_cast<uint32_t>(first));
  tile.epilogue = batch.last && k + count == batch.num_k ? &epilogue : nullptr;
  tile.b = scratch->panels + k * static_cast<size_t>(kLanes);
  tile.c = layer.y + rows.m * g.out_channels + first;
  int32_t packed_group = in_place ? 0 : -1;
  for (uint32_t i = 0; i < batch.num_panels; ++i) {
    const int32_t end = std::min(first + static_cast<int32_t>(kLanes), g.out_channels);
    for (int32_t group = first / per_group; group * per_group < end; ++group) {
      if (group != packed_group) PackRows(layer, group, Position(g, rows.m), rows.count, batch.first_k + k, count, scratch->rows);
      packed_group = group;
      tile.first_column = static_cast<uint32_t>(std::max(group * per_group - first, 0));
      tile.end_column = static_cast<uint32_t>(std::min((group + 1) * per_group, end) - first);
      kernels.gemm(tile);
    }
    const int32_t step = static_cast<int32_t>(batch.panel_step * kLanes);
    first += step;
    tile.b += static_cast<size_t>(batch.slot_k) * kLanes;
    tile.c += step;
    epilogue.scale += step;
    if (layer.bias != nullptr) epilogue.bias += step;
  }
}

// Whether enough windows lie whole in a line, and are short enough to be multiplied at once where they are.
bool HasWindowsInPlace(const ConvLayer& layer) {
  const ConvGeometry& g = layer.geometry;
  const WholeWindows whole(g);
  return g.filter_in == g.in_channels && g.filter_height * g.filter_width > 1 && g.dilation_height == 1 && g.dilation_width == 1 &&
         layer.weight->channel_elements <= kMaxChunk && whole.end - whole.first >= static_cast<int32_t>(ActiveIsa().f32->gemm_rows);
}

// One line of the output.
void MultiplyLine(const ConvLayer& layer, const Batch& batch, int64_t m, Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const int32_t gemm_rows = static_cast<int32_t>(ActiveIsa().f32->gemm_rows);
  const WholeWindows whole(g);
  const Position line(g, m);
  const bool inside = line.InputY(g) >= 0 && line.InputY(g) + g.filter_height <= g.in_height;
  for (int32_t x = 0, count; x < g.out_width; x += count) {
    count = inside && x >= whole.first ? static_cast<int32_t>(WholeBlock(whole.end - x)) : 0;
    const bool in_place = count != 0;
    if (!in_place) count = std::min(gemm_rows, inside && x < whole.first ? whole.first - x : g.out_width - x);
    const int64_t pixel = static_cast<int64_t>(line.InputY(g)) * g.in_width + x * g.stride_width - g.pad_left;
    const float* window = in_place ? line.Image(g, layer.x) + pixel * g.in_channels : nullptr;
    MultiplyRows(layer, batch, 0, batch.num_k, {m + x, static_cast<uint32_t>(count), window}, scratch);
  }
}

void MultiplyGemm(const void* context, const Batch& batch, Scratch* scratch) {
  const ConvLayer& layer = *static_cast<const ConvLayer*>(context);
  const ConvGeometry& g = layer.geometry;
  if (HasWindowsInPlace(layer) && batch.num_k == layer.weight->channel_elements) {
    for (int64_t m = batch.begin_position; m < batch.end_position; m += g.out_width) MultiplyLine(layer, batch, m, scratch);
    return;
  }
  const uint32_t chunks = (batch.num_k + kMaxChunk - 1) / kMaxChunk;
  const uint32_t chunk = (batch.num_k + chunks - 1) / chunks;
  for (int64_t m = batch.begin_position, rows; m < batch.end_position; m += rows) {
    const uint32_t whole = WholeBlock(batch.end_position - m);
    rows = whole != 0 ? whole : batch.end_position - m;
    const float* in_place = whole != 0 && RowsAreInput(g) ? layer.x + m * g.in_channels + batch.first_k : nullptr;
    for (uint32_t k = 0; k < batch.num_k; k += chunk) {
      MultiplyRows(layer, batch, k, std::min(chunk, batch.num_k - k), {m, static_cast<uint32_t>(rows), in_place == nullptr ? nullptr : in_place + k}, scratch);
    }
  }
}

// One axis of TFLite's ComputePaddingHeightWidth. False if there is no output.
bool OutputSize(bool same, int32_t before, int32_t after, int32_t in, int32_t filter, int32_t stride, int32_t dilation, int32_t* out, int32_t* pad) {
  constexpr int64_t kMax = 1 << 29;  // so that no sum of a coordinate, a filter's reach and one step more overflows an int32
  const int64_t reach = static_cast<int64_t>(filter - 1) * dilation + 1;
  if (in > kMax || stride > kMax || dilation > kMax || reach > kMax) return false;
  const int64_t padded = static_cast<int64_t>(in) + before + after;
  const int64_t size = same ? (static_cast<int64_t>(in) + stride - 1) / stride : (padded + stride - reach) / stride;
  if (size < 1) return false;
  const int64_t padding = (size - 1) * stride + reach - in;
  *out = static_cast<int32_t>(size);
  *pad = !same ? before : padding > 0 ? static_cast<int32_t>(padding / 2) : 0;
  return true;
}

}  // namespace

bool SetOutputSize(const Padding& p, ConvGeometry* g) {
  return OutputSize(p.same, p.top, p.bottom, g->in_height, g->filter_height, g->stride_height, g->dilation_height, &g->out_height, &g->pad_top) &&
         OutputSize(p.same, p.left, p.right, g->in_width, g->filter_width, g->stride_width, g->dilation_width, &g->out_width, &g->pad_left);
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
  const Limits limits = LimitsOf(layer.activation);
  return {layer.weight->scales + first_channel, layer.bias == nullptr ? kNoBias : layer.bias + first_channel, limits.min, limits.max};
}

int32_t MaxGroupsPerPanel(const ConvGeometry& g) {
  if (g.filter_in == g.in_channels) return 1;  // as most do: divisions take longer than a small layer's multiplications
  const int32_t width = std::min(g.out_channels, static_cast<int32_t>(kLanes));
  return std::min(g.groups(), (width + g.channels_per_group() - 1) / g.channels_per_group());
}

uint32_t WholeBlock(int64_t left) {
  const uint32_t gemm_rows = ActiveIsa().f32->gemm_rows;
  for (const uint32_t rows : {gemm_rows, 8u, kMinBlockRows}) {
    if (rows <= left && rows <= gemm_rows) return rows;
  }
  return 0;
}

uint32_t GemmPositionStep() {
  const uint32_t gemm_rows = ActiveIsa().f32->gemm_rows;
  return gemm_rows % kMinBlockRows == 0 ? kMinBlockRows : gemm_rows;
}

namespace {

// A column of pixels, filtered along itself, lies in memory as a line does, and lines are what the kernels cut.
bool IsColumn(const ConvGeometry& g) { return g.in_width == 1 && g.filter_width == 1 && g.out_width == 1 && g.in_height > 1; }

ConvGeometry AsLine(ConvGeometry g) {
  std::swap(g.in_height, g.in_width);
  std::swap(g.out_height, g.out_width);
  std::swap(g.filter_height, g.filter_width);
  std::swap(g.stride_height, g.stride_width);
  std::swap(g.dilation_height, g.dilation_width);
  std::swap(g.pad_top, g.pad_left);
  return g;
}

}  // namespace

bool IsLineByLine(const PackedWeight& weight, const ConvGeometry& geometry) {
  return geometry.batch == 1 && !IsWinograd({&weight, geometry, Activation::kNone, nullptr, nullptr, nullptr});
}

Status RunConv2D(Runtime* runtime, const ConvLayer& layer) {
  if (IsColumn(layer.geometry)) return RunConv2D(runtime, {layer.weight, AsLine(layer.geometry), layer.activation, layer.bias, layer.x, layer.y});
  if (IsVector(layer)) return RunConv2DVector(runtime, layer);
  if (IsDepthwise(layer.geometry)) return RunConv2DDepthwise(runtime, layer);
  if (IsWinograd(layer)) return RunConv2DWinograd(runtime, layer);
  if (MaxGroupsPerPanel(layer.geometry) > kMaxGemmGroups) return RunConv2DLanes(runtime, layer);
  const uint32_t step = HasWindowsInPlace(layer) ? static_cast<uint32_t>(layer.geometry.out_width) : GemmPositionStep();
  const Schedule schedule = MakeSchedule(*layer.weight, layer.geometry.positions(), runtime->threads.num_threads(), kMaxPiece, step);
  return RunSchedule(runtime, *layer.weight, schedule, MultiplyGemm, &layer);
}

}  // namespace tflite_smart
