// Depthwise convolutions, and grouped ones with few channels a group: one output channel a lane.
#include <algorithm>
#include <cstring>

#include "kernels/int8_parts.h"
#include "kernels/isa.h"

namespace tflite_smart {
namespace {

// Pointers are worth their while for a few positions at a time; more would only push the input out of the cache.
constexpr uint32_t kMaxPositions = 32;

// k from first_k, at positions from m. One k is a tap, or one input channel of a tap.
struct Window {
  const Int8Layer& layer;
  uint32_t first_k, num_k, stride;  // stride: pointers of one position, num_k rounded up to pairs
};

// Where channel 0 of each k of one position's window lies.
void FindTaps(const Window& w, const Position& position, const int8_t* outside, const int8_t** taps) {
  const ConvGeometry& g = w.layer.geometry;
  const uint32_t filter_in = static_cast<uint32_t>(g.filter_in), width = static_cast<uint32_t>(g.filter_width);
  uint32_t i = w.first_k % filter_in, column = w.first_k / filter_in % width;
  int32_t y = position.InputY(g) + static_cast<int32_t>(w.first_k / filter_in / width) * g.dilation_height;
  const int8_t* const image = ImageOf(w.layer, position);
  for (uint32_t k = 0; k < w.num_k;) {
    const bool row_inside = y >= 0 && y < g.in_height;
    const int8_t* const line = image + static_cast<int64_t>(row_inside ? y : 0) * g.in_width * g.in_channels;
    for (; column < width && k < w.num_k; ++column) {
      const int32_t x = position.InputX(g) + static_cast<int32_t>(column) * g.dilation_width;
      const bool inside = row_inside && x >= 0 && x < g.in_width;
      const int8_t* const pixel = line + static_cast<int64_t>(x) * g.in_channels;
      for (; i < filter_in && k < w.num_k; ++i) taps[k++] = inside ? pixel + i : outside;
      i = 0;
    }
    column = 0;
    y += g.dilation_height;
  }
  for (uint32_t k = w.num_k; k < w.stride; ++k) taps[k] = outside;  // meets a weight of 0
}

// Output columns first..end-1 see no border on the left or right, whatever their row.
struct InnerColumns {
  int32_t first, end;

  explicit InnerColumns(const ConvGeometry& g) {
    const int64_t reach = static_cast<int64_t>(g.filter_width - 1) * g.dilation_width + 1;
    const int64_t room = static_cast<int64_t>(g.in_width) + g.pad_left - reach;
    first = (g.pad_left + g.stride_width - 1) / g.stride_width;
    end = room < 0 ? 0 : static_cast<int32_t>(std::min<int64_t>(room / g.stride_width + 1, g.out_width));
  }
};

bool InnerRow(const ConvGeometry& g, const Position& position) {
  const int64_t y = position.InputY(g);
  return y >= 0 && y + static_cast<int64_t>(g.filter_height - 1) * g.dilation_height < g.in_height;
}

// The taps of `count` positions in a row of the output; *inside: whether all of them are in the image. Then they repeat at a distance.
void FindRowTaps(const Window& w, Position position, uint32_t count, bool inside, const int8_t* outside, const int8_t** taps) {
  const ConvGeometry& g = w.layer.geometry;
  FindTaps(w, position, outside, taps);
  if (inside && w.num_k < w.stride) taps[w.num_k] = taps[0];  // meets a weight of 0
  const int64_t step = static_cast<int64_t>(g.stride_width) * g.in_channels;
  for (uint32_t p = 1; p < count; ++p) {
    const int8_t** const now = taps + p * w.stride;
    if (inside) {
      for (uint32_t k = 0; k < w.stride; ++k) now[k] = now[static_cast<int64_t>(k) - w.stride] + step;
    } else {
      position.Advance(g);
      FindTaps(w, position, outside, now);
    }
  }
}

// Copies what the 32 lanes of a panel that begins at `first` read to where they are neighbours: for panels whose channels are not, and for
// the last bytes of the input, which 32 bytes must not be read from. Returns the pointers.
class Picker {
 public:
  Picker(const Int8Layer& layer, int32_t first, Int8Scratch* scratch)
      : scratch_(scratch), layer_(layer), first_(first), width_(std::min(static_cast<int32_t>(kLanes), layer.geometry.out_channels - first)),
        consecutive_(AreConsecutive(layer.geometry)) {}

  // Lanes read neighbours.
  static bool AreConsecutive(const ConvGeometry& g) { return g.filter_in == 1 && g.channels_per_group() == 1; }

  int32_t offset() const { return OffsetOf(0); }

  // The taps of `count` pointers that the kernel can read as they are, from scratch->lanes.taps + begin; the others go to scratch->lanes.picked.
  // All of them then are relative to offset().
  void Pick(uint32_t begin, uint32_t count, const int8_t** taps) {
    const ConvGeometry& g = layer_.geometry;
    const int8_t* const end = layer_.fixed->x + static_cast<int64_t>(g.batch) * g.in_height * g.in_width * g.in_channels;
    int32_t offsets[kLanes];
    for (int32_t j = 0; j < width_; ++j) offsets[j] = OffsetOf(j);
    for (uint32_t i = begin; i < begin + count; ++i) {
      const int8_t* pixel = taps[i];
      if (pixel == scratch_->lanes.outside) continue;
      if (consecutive_ && end - pixel >= first_ + static_cast<int32_t>(kLanes)) continue;
      int8_t* const row = scratch_->lanes.picked + static_cast<size_t>(i) * kLanes;
      for (int32_t j = 0; j < width_; ++j) row[j] = pixel[offsets[j]];
      taps[i] = row - offsets[0];
    }
  }

  // Whether the taps can be used as they are.
  bool nothing_to_pick() const { return consecutive_ && width_ == static_cast<int32_t>(kLanes); }

 private:
  int32_t OffsetOf(int32_t lane) const {
    const ConvGeometry& g = layer_.geometry;
    return consecutive_ ? first_ + lane : (first_ + lane) / g.channels_per_group() * g.filter_in;
  }

  Int8Scratch* const scratch_;
  const Int8Layer& layer_;
  const int32_t first_, width_;
  const bool consecutive_;
};

// Whether every panel can read the taps of positions in a row of the output where they lie. `last_tap`: the last one of the last position.
bool LiesInPlace(const Int8Layer& layer, const int8_t* last_tap) {
  const ConvGeometry& g = layer.geometry;
  const int8_t* const end = layer.fixed->x + static_cast<int64_t>(g.batch) * g.in_height * g.in_width * g.in_channels;
  const int64_t lanes = static_cast<int64_t>(kLanes), channels = (g.out_channels + lanes - 1) / lanes * lanes;
  return Picker::AreConsecutive(g) && end - last_tap >= channels;
}

void MultiplyLanes(const Int8Layer& layer, const Int8Batch& batch, Int8Input*, Int8Scratch* scratch) {
  const ConvGeometry& g = layer.geometry;
  const Int8Kernels& kernels = *ActiveIsa().i8;
  const uint32_t first_k = 2 * batch.first_group, num_k = std::min(2 * batch.num_groups, layer.weight->channel_elements - first_k);
  std::memset(scratch->lanes.outside, layer.fixed->x_zero_point, sizeof(scratch->lanes.outside));
  Int8LaneTile tile;
  tile.pairs = (num_k + 1) / 2;
  tile.taps = scratch->lanes.taps;
  tile.c_stride = static_cast<size_t>(g.out_channels);
  tile.accumulate = !batch.first;
  tile.step = static_cast<size_t>(g.stride_width) * static_cast<size_t>(g.in_channels);
  const Window window = {layer, first_k, num_k, 2 * tile.pairs};
  const uint32_t step = std::min(kMaxPositions, kInt8Taps / window.stride);
  const InnerColumns inner(g);
  for (int64_t m = batch.begin_position; m < batch.end_position; m += tile.positions) {
    const Position position(g, m);
    const bool inside = InnerRow(g, position) && position.x >= inner.first && position.x < inner.end;
    const int32_t run_end = inside ? inner.end : InnerRow(g, position) && position.x < inner.first ? inner.first : g.out_width;
    const int64_t most = std::min<int64_t>(std::min<int64_t>(step, std::max(run_end - position.x, 1)), batch.end_position - m);
    tile.positions = static_cast<uint32_t>(most);
    tile.partial = scratch->partial + (batch.first && batch.last ? 0 : (m - batch.begin_position) * batch.num_panels * kLanes);
    FindTaps(window, position, scratch->lanes.outside, scratch->lanes.taps);
    const bool in_place = inside && LiesInPlace(layer, scratch->lanes.taps[num_k - 1] + (tile.positions - 1) * tile.step);
    if (in_place) scratch->lanes.taps[window.stride - 1] = scratch->lanes.taps[num_k - 1];  // may meet a weight of 0
    tile.outside = in_place ? nullptr : scratch->lanes.outside;
    bool found = in_place;
    for (uint32_t i = 0; i < batch.num_panels; ++i) {
      const int32_t first = static_cast<int32_t>(batch.panels[i] * kLanes);
      Picker picker(layer, first, scratch);
      if (!found) FindRowTaps(window, position, tile.positions, inside, scratch->lanes.outside, scratch->lanes.taps);
      found = in_place || picker.nothing_to_pick();  // else the taps are this panel's own
      if (!found) picker.Pick(0, tile.positions * window.stride, scratch->lanes.taps);
      tile.offset = static_cast<size_t>(picker.offset());
      tile.columns = static_cast<uint32_t>(std::min(static_cast<int32_t>(kLanes), g.out_channels - first));
      tile.b = batch.at(i);
      tile.start = scratch->epilogues[i].bias;
      tile.epilogue = batch.last ? &scratch->epilogues[i] : nullptr;
      tile.c = layer.fixed->y + m * g.out_channels + first;
      kernels.lanes(tile);
      if (!batch.first || !batch.last) tile.partial += tile.positions * static_cast<size_t>(kLanes);
    }
  }
}

}  // namespace

Int8Method Int8LanesMethod(const Int8Layer& layer) {
  const uint32_t k = layer.weight->channel_elements;
  return {2, 0, {1, k, (k + 1) / 2}, ActiveIsa().i8->pack_lanes, MultiplyLanes, kInt8Taps / 2, kInt8Taps / 2, 1, kInt8PartialRows / kMaxSideBySide};
}

}  // namespace tflite_smart
