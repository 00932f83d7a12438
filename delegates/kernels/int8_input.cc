#include "kernels/int8_input.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"
#include "kernels/window_runs.h"

namespace tflite_smart {
namespace {

bool IsOnePixel(const ConvGeometry& g) { return g.filter_height == 1 && g.filter_width == 1; }

// Long rows at a distance of a power of two would fall on the same sets of the first-level cache.
uint32_t RowPitch(uint32_t bytes) {
  constexpr uint32_t kLong = 512, kLine = 64;
  return bytes < kLong ? (bytes + 3) / 4 * 4 : ((bytes + kLine - 1) / kLine | 1) * kLine;
}

}  // namespace

Int8Runs Int8RunsOf(const ConvGeometry& g) {
  const uint32_t height = static_cast<uint32_t>(g.filter_height), width = static_cast<uint32_t>(g.filter_width);
  const uint32_t channels = static_cast<uint32_t>(g.filter_in), group = ActiveIsa().i8->group;
  const bool lines = g.dilation_width == 1 && g.filter_in == g.in_channels;
  const uint32_t count = lines ? height : height * width, elements = lines ? width * channels : channels;
  return {count, elements, (elements + group - 1) / group};
}

Int8Input::Int8Input(const Int8Layer& layer, bool pieces, Int8Scratch* scratch)
    : layer_(layer), g_(layer.geometry), kernels_(*ActiveIsa().i8), runs_(Int8RunsOf(g_)), element_bytes_(sizeof(int32_t) / kernels_.group),
      strip_(scratch->strip), kind_(Kind::kWindows), image_elements_(static_cast<int64_t>(g_.in_height) * g_.in_width * g_.in_channels) {

  const int64_t pixel = static_cast<int64_t>(g_.in_channels) * element_bytes_;
  const bool tile_fits = pixel < kInt8StripBytes && RowPitch(static_cast<uint32_t>(pixel)) * kernels_.gemm_rows <= kInt8StripBytes;
  line_pixels_ = (g_.out_width - 1) * g_.stride_width + (g_.filter_width - 1) * g_.dilation_width + 1;
  reach_ = (g_.filter_height - 1) * g_.dilation_height + 1;
  if (layer.fixed != nullptr) fixed_.zero_point = layer.fixed->x_zero_point;
  if (!pieces && IsOnePixel(g_) && tile_fits) {
    kind_ = Kind::kPixels;
    pitch_ = RowPitch(static_cast<uint32_t>(pixel));
    offsets_[0] = 0;
  } else if (!pieces && runs_.count <= kMaxInt8Runs && pixel * line_pixels_ <= kInt8StripBytes / reach_) {
    kind_ = Kind::kLines;
    pitch_ = static_cast<uint32_t>(pixel) * static_cast<uint32_t>(line_pixels_);
    const uint32_t per_line = runs_.count / static_cast<uint32_t>(g_.filter_height);
    const uint32_t down = static_cast<uint32_t>(g_.dilation_height) * pitch_;
    const uint32_t right = static_cast<uint32_t>(g_.dilation_width) * static_cast<uint32_t>(pixel);
    for (uint32_t i = 0; i < runs_.count; ++i) offsets_[i] = i / per_line * down + i % per_line * right;
  }
}

const Quantization& Int8Input::QuantizationOf(int32_t image) const { return layer_.dynamic != nullptr ? layer_.images[image] : fixed_; }

// from: elements from the first one of the input.
void Int8Input::Convert(int64_t from, size_t count, const Quantization& quantization, uint8_t* to) const {
  if (layer_.dynamic != nullptr) return kernels_.quantize(layer_.dynamic->x + from, count, quantization, to);
  kernels_.pack(layer_.fixed->x + from, count, to);
}

void Int8Input::FillOutside(size_t count, const Quantization& quantization, uint8_t* to) const {
  const int32_t value = quantization.zero_point + kernels_.offset;
  if (element_bytes_ == 1) {
    std::memset(to, value, count);
    return;
  }
  const int16_t word = static_cast<int16_t>(value);
  for (size_t i = 0; i < count; ++i) std::memcpy(to + 2 * i, &word, sizeof(word));
}

int64_t Int8Input::Fill(int64_t m, int64_t end) {
  if (kind_ == Kind::kWindows) {
    window_groups_ = 0;
    begin_ = m;
    return std::min<int64_t>(end, m + kernels_.gemm_rows);
  }
  if (m == begin_ && end_ > m) return end_;  // as for the last batch of panels
  begin_ = m;
  if (kind_ == Kind::kLines) return end_ = FillLines(m, end);
  const int64_t most = kInt8StripBytes / pitch_, rows = kernels_.gemm_rows;
  end_ = end - m <= most ? end : m + most / rows * rows;
  FillPixels(m, end_ - m);
  return end_;
}

void Int8Input::FillPixels(int64_t m, int64_t count) {
  const size_t channels = static_cast<size_t>(g_.in_channels);
  const bool neighbours = g_.stride_height == 1 && g_.stride_width == 1;
  const int64_t image_positions = static_cast<int64_t>(g_.out_height) * g_.out_width;
  Position position(g_, m);
  uint8_t* to = strip_;
  for (int64_t done = 0; done < count;) {
    const Quantization& quantization = QuantizationOf(position.batch);
    if (neighbours && pitch_ == channels * element_bytes_) {  // all that is left of an image at once
      const int64_t in_image = (m + done) % image_positions, now = std::min(count - done, image_positions - in_image);
      Convert((m + done) * g_.in_channels, static_cast<size_t>(now) * channels, quantization, to);
      done += now;
      to += now * pitch_;
      position = Position(g_, m + done);
      continue;
    }
    const int64_t pixel = static_cast<int64_t>(position.InputY(g_)) * g_.in_width + position.InputX(g_);
    Convert(position.batch * image_elements_ + pixel * g_.in_channels, channels, quantization, to);
    ++done;
    to += pitch_;
    position.Advance(g_);
  }
}

int64_t Int8Input::FillLines(int64_t m, int64_t end) {
  const Position position(g_, m);
  const int64_t image_positions = static_cast<int64_t>(g_.out_height) * g_.out_width, image = position.batch * image_positions;
  const int32_t room = static_cast<int32_t>(kInt8StripBytes / pitch_);
  const int64_t last = std::min(end - 1 - image, image_positions - 1) / g_.out_width;
  const int32_t lines = std::min(static_cast<int32_t>(last) - position.y, (room - reach_) / g_.stride_height) + 1;
  first_line_ = position.InputY(g_);
  uint8_t* to = strip_;
  for (int32_t i = 0; i < (lines - 1) * g_.stride_height + reach_; ++i, to += pitch_) {
    FillLine(QuantizationOf(position.batch), position.batch * image_elements_, first_line_ + i, to);
  }
  return std::min(end, image + static_cast<int64_t>(position.y + lines) * g_.out_width);
}

void Int8Input::FillLine(const Quantization& quantization, int64_t image, int32_t y, uint8_t* to) const {
  const size_t channels = static_cast<size_t>(g_.in_channels), pixel_bytes = channels * element_bytes_;
  if (y < 0 || y >= g_.in_height) return FillOutside(static_cast<size_t>(line_pixels_) * channels, quantization, to);
  const int32_t left = std::min(g_.pad_left, line_pixels_), inside = std::min(g_.in_width, line_pixels_ - left);
  const int32_t right = line_pixels_ - left - inside;
  FillOutside(static_cast<size_t>(left) * channels, quantization, to);
  to += static_cast<size_t>(left) * pixel_bytes;
  Convert(image + static_cast<int64_t>(y) * g_.in_width * g_.in_channels, static_cast<size_t>(inside) * channels, quantization, to);
  FillOutside(static_cast<size_t>(right) * channels, quantization, to + static_cast<size_t>(inside) * pixel_bytes);
}

// The dwords window_group_.. of one window.
void Int8Input::PackWindow(const Position& position, const Quantization& quantization, uint8_t* to) const {
  const int64_t first = position.batch * image_elements_ + static_cast<int64_t>(window_channels_) * g_.filter_in;
  for (uint32_t group = window_group_; group < window_group_ + window_groups_;) {
    const uint32_t run = group / runs_.groups, in_run = group % runs_.groups;
    const uint32_t now = std::min(runs_.groups - in_run, window_group_ + window_groups_ - group);
    const uint32_t k = in_run * kernels_.group, count = std::min(now * kernels_.group, runs_.elements - k);
    uint8_t* out = to + static_cast<size_t>(group - window_group_) * sizeof(int32_t);
    ForEachRun(g_, position.InputY(g_), position.InputX(g_), run * runs_.elements + k, count, [&](int64_t offset, uint32_t length) {
      if (offset < 0) {
        FillOutside(length, quantization, out);
      } else {
        Convert(first + offset, length, quantization, out);
      }
      out += static_cast<size_t>(length) * element_bytes_;
    });
    group += now;
  }
}

// The rows of a tile from `first` on are of this image.
void Int8Input::SetImage(int32_t image, uint32_t first) {
  if (image == image_) return;
  for (uint32_t r = first; r < kMaxInt8Rows; ++r) quantization_[r] = QuantizationOf(image);
  image_ = first == 0 ? image : -1;
}

void Int8Input::SetRows(int64_t m, int32_t channel_group, uint32_t first_group, uint32_t num_groups, Int8GemmTile* tile) {
  Position position = m == next_m_ ? next_ : Position(g_, m);  // divisions only where rows do not follow each other
  const bool windows = kind_ == Kind::kWindows;
  const bool pack = windows && (window_groups_ != num_groups || window_group_ != first_group || window_channels_ != channel_group);
  if (windows) {
    window_channels_ = channel_group;
    window_group_ = first_group;
    window_groups_ = num_groups;
    pitch_ = RowPitch(num_groups * sizeof(int32_t));
    offsets_[0] = 0;
  }
  const size_t pixel_bytes = static_cast<size_t>(g_.in_channels) * element_bytes_;
  const size_t channels = windows ? 0 : static_cast<size_t>(channel_group) * static_cast<size_t>(g_.filter_in) * element_bytes_;
  const size_t step = kind_ == Kind::kLines ? static_cast<size_t>(g_.stride_width) * pixel_bytes : pitch_;
  for (uint32_t r = 0; r < tile->rows;) {  // a line of the output
    const uint32_t count = std::min(tile->rows - r, static_cast<uint32_t>(g_.out_width - position.x));
    uint8_t* row = strip_ + static_cast<size_t>(m - begin_ + r) * pitch_;
    if (kind_ == Kind::kLines) row = strip_ + static_cast<size_t>(position.InputY(g_) - first_line_) * pitch_ + static_cast<size_t>(position.x) * step;
    SetImage(position.batch, r);
    for (uint32_t i = 0; i < count; ++i) rows_[r + i] = row + i * step + channels;
    Position window = position;
    for (uint32_t i = 0; i < count && pack; ++i, ++window.x) PackWindow(window, quantization_[r], row + i * step);
    position.Advance(g_, static_cast<int32_t>(count));
    r += count;
  }
  next_m_ = m + tile->rows;
  next_ = position;
  for (uint32_t r = tile->rows; r < kMaxInt8Rows; ++r) rows_[r] = rows_[0];
  tile->a = rows_;
  tile->runs = offsets_;
  tile->num_runs = windows ? 1 : runs_.count;
  tile->run_groups = windows ? num_groups : runs_.groups;
  tile->quantization = quantization_;
  tile->one_image = image_ >= 0;
}

}  // namespace tflite_smart
