// Depthwise convolutions with one output channel per input channel.
//
// A line of the output is cut where the border of the image cuts the windows differently: a few positions on the left and on the right
// alone, all between them at once.
#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// All of a panel's k is decoded at once.
constexpr uint32_t kMaxWindow = kMaxChunk;

// Weights that are multiplied at all positions before the next ones are: as many as a first-level cache holds beside the image's lines.
constexpr uint32_t kNearFloats = 4096;

// The taps of one axis of a window that lie in the image: first <= tap < end.
struct Inside {
  int32_t first, end;

  Inside(int32_t origin, int32_t taps, int32_t dilation, int32_t size)
      : first(origin >= 0 ? 0 : std::min(taps, (-origin + dilation - 1) / dilation)),
        end(origin >= size ? first : std::max(first, std::min(taps, (size - 1 - origin) / dilation + 1))) {}
};

// Positions x..x+count of one line, whose windows have the same taps inside the image. `origin`: the whole window, of the image's first position; `line` is the
// same but for what is set here, as a copy of all of it would wait until it has left the processor's pipeline.
void RunPositions(const ConvLayer& layer, const Inside& rows, const Position& at, uint32_t count, const DepthwiseLine& origin, DepthwiseLine* line) {
  const ConvGeometry& g = layer.geometry;
  const int32_t y0 = at.InputY(g), x0 = at.InputX(g);
  const Inside taps(x0, g.filter_width, g.dilation_width, g.in_width);
  line->rows = static_cast<uint32_t>(taps.end > taps.first ? rows.end - rows.first : 0);
  line->taps = static_cast<uint32_t>(taps.end - taps.first);
  line->x = origin.x;
  line->b = origin.b;
  if (line->rows != 0 && line->taps != 0) {
    const int64_t y = y0 + rows.first * g.dilation_height, x = x0 + taps.first * g.dilation_width;
    line->x += (static_cast<int64_t>(at.batch) * g.in_height * g.in_width + y * g.in_width + x) * g.in_channels;
    line->b += rows.first * line->b_row_stride + static_cast<size_t>(taps.first) * kLanes;
  }
  line->positions = count;
  line->c = origin.c + ((static_cast<int64_t>(at.batch) * g.out_height + at.y) * g.out_width + at.x) * g.out_channels;
  ActiveIsa().f32->depthwise(*line);
}

// Positions from at.x to end_x of one line.
void RunLine(const ConvLayer& layer, Position at, int32_t end_x, const DepthwiseLine& origin, DepthwiseLine* line) {
  const ConvGeometry& g = layer.geometry;
  const Inside rows(at.InputY(g), g.filter_height, g.dilation_height, g.in_height);
  const WholeWindows whole(g);
  while (at.x < end_x) {
    const int32_t count = at.x >= whole.first && at.x < whole.end ? std::min(end_x, whole.end) - at.x : 1;
    RunPositions(layer, rows, at, static_cast<uint32_t>(count), origin, line);
    at.x += count;
  }
}

// `panels` neighbours from the batch's panel i.
void MultiplyPanels(const ConvLayer& layer, const Batch& batch, uint32_t i, uint32_t panels, Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const uint32_t first = (batch.first_panel + i * batch.panel_step) * kLanes;
  const Epilogue epilogue = PanelEpilogue(layer, first);
  const size_t channels = static_cast<size_t>(g.in_channels);
  DepthwiseLine line = {};
  line.x = layer.x + first;
  line.row_stride = channels * static_cast<size_t>(g.in_width) * static_cast<size_t>(g.dilation_height);
  line.tap_stride = channels * static_cast<size_t>(g.dilation_width);
  line.position_stride = channels * static_cast<size_t>(g.stride_width);
  line.channels = std::min(panels * kLanes, static_cast<uint32_t>(g.out_channels) - first);
  line.b = scratch->panels + static_cast<size_t>(i) * batch.slot_k * kLanes;
  line.b_row_stride = static_cast<size_t>(g.filter_width) * kLanes;
  line.b_panel_stride = static_cast<size_t>(batch.slot_k) * kLanes;
  line.c = layer.y + first;
  line.c_stride = channels;
  line.scale = epilogue.scale;
  line.bias = layer.bias == nullptr ? nullptr : epilogue.bias;
  line.min = epilogue.min;
  line.max = epilogue.max;
  const DepthwiseLine origin = line;
  for (int64_t m = batch.begin_position; m < batch.end_position;) {
    const Position at(g, m);
    const int32_t end_x = static_cast<int32_t>(std::min<int64_t>(g.out_width, at.x + (batch.end_position - m)));
    RunLine(layer, at, end_x, origin, &line);
    m += end_x - at.x;
  }
}

void MultiplyDepthwise(const void* context, const Batch& batch, Scratch* scratch) {
  const ConvLayer& layer = *static_cast<const ConvLayer*>(context);
  const uint32_t fit = std::max(4u, kNearFloats / (batch.slot_k * kLanes) / 4 * 4);
  const uint32_t neighbours = batch.panel_step == 1 ? std::min(fit, batch.num_panels) : 1;
  for (uint32_t i = 0; i < batch.num_panels; i += neighbours) MultiplyPanels(layer, batch, i, std::min(neighbours, batch.num_panels - i), scratch);
}

}  // namespace

bool IsDepthwise(const ConvGeometry& g) {
  return g.filter_in == 1 && g.in_channels == g.out_channels && static_cast<int64_t>(g.filter_height) * g.filter_width <= kMaxWindow;
}

Status RunConv2DDepthwise(Runtime* runtime, const ConvLayer& layer) {
  // Cut where the layers before and behind are, which run on the GEMM.
  const Schedule schedule = MakeSchedule(*layer.weight, layer.geometry.positions(), runtime->threads.num_threads(), kMaxPiece, GemmPositionStep());
  return RunSchedule(runtime, *layer.weight, schedule, MultiplyDepthwise, &layer);
}

}  // namespace tflite_smart
