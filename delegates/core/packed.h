// A packed weight (converter/FORMAT.md), parsed and fully checked. It points into the caller's bytes and owns nothing.
#ifndef TFLITE_SMART_CORE_PACKED_H_
#define TFLITE_SMART_CORE_PACKED_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/coding.h"
#include "core/format.h"
#include "core/status.h"

namespace tflite_smart {

// Of value kind smartdeal: which ids make which weights, and with what. All 0 for the others.
struct Basis {
  uint32_t group_size;
  uint32_t group_stride;
  uint32_t slice_groups;
  const int8_t* values;  // [slice][group_size][group_size][num_channels]; 32 channels can be read from each that exists
};

// A weight that is not packed at all: a small one of a builtin operator. values[channel * channel_step + k * k_step]; null: it is packed.
struct PlainValues {
  const float* values;
  size_t channel_step, k_step;
};

struct PackedWeight {
  Codec codec;
  ValueKind value_kind;
  uint32_t num_channels;      // N
  uint32_t channel_elements;  // K
  uint32_t inner_elements;    // product of the axes after the channel axis
  uint32_t panels_per_tile;
  uint8_t num_symbols;        // of rans; else 0
  uint32_t num_panels;
  uint32_t num_tiles;
  const float* codebook;      // 256 values, indexed by id + 128; null unless value_kind is kCodebook
  const float* scales;        // num_channels values; null for kInteger, and until ReadChannels where they are stored as codes
  const float* bias;          // num_channels values from ReadChannels on, or null: the operator's own
  const uint8_t* scale_codes; // of scale_bits each, or null
  const uint8_t* bias_codes;  // the step, then codes of bias_bits each, or null
  uint8_t scale_exponent, scale_bits, mantissa_bits, bias_bits;
  const uint32_t* tile_ends;  // offsets into the payload, of all tiles but the last
  const uint8_t* payload;
  uint32_t payload_bytes;
  Coding coding;
  Basis basis;
  PlainValues plain;
  uint32_t piece_step;        // k of a panel can be taken in multiples of it: whole rows in a panel of any width, and whole groups

  // Whether the values are int8 plus a constant: the ids, or what a PanelReader has made of those of `dependent`.
  bool values_are_ids() const {
    return plain.values == nullptr && (value_kind <= ValueKind::kMidrise || value_kind == ValueKind::kDependent);
  }

  // The most k to take at once, up to `most`; or the fewest possible where those are more.
  uint32_t piece(uint32_t most) const { return most < piece_step ? piece_step : most - most % piece_step; }

  uint64_t num_elements() const { return static_cast<uint64_t>(num_channels) * channel_elements; }

  // Channels of panel p: 32, or fewer in the model's last panel.
  uint32_t panel_width(uint32_t panel) const {
    const uint32_t rest = num_channels - panel * kLanes;
    return rest < kLanes ? rest : kLanes;
  }

  uint32_t first_panel(uint32_t tile) const { return tile * panels_per_tile; }
  uint32_t tile_panels(uint32_t tile) const {
    const uint32_t rest = num_panels - first_panel(tile);
    return rest < panels_per_tile ? rest : panels_per_tile;
  }
  uint64_t tile_ids(uint32_t tile) const {
    const uint64_t first = static_cast<uint64_t>(first_panel(tile)) * kLanes;
    uint64_t channels = static_cast<uint64_t>(tile_panels(tile)) * kLanes;
    if (first + channels > num_channels) channels = num_channels - first;
    return channels * channel_elements;
  }
  uint64_t tile_rows(uint32_t tile) const { return tile_ids(tile) / kLanes + (tile_ids(tile) % kLanes != 0); }
  uint32_t tile_end_offset(uint32_t tile) const { return tile + 1 < num_tiles ? tile_ends[tile] : payload_bytes; }
  const uint8_t* tile_begin(uint32_t tile) const { return payload + (tile == 0 ? 0 : tile_ends[tile - 1]); }
  const uint8_t* tile_end(uint32_t tile) const { return payload + tile_end_offset(tile); }
};

// Checks everything in section 5 of FORMAT.md that can be checked without decoding, and allocates nothing. `data` must be
// 4-byte aligned and outlive `out`. On error `out` must not be used.
Status Open(const uint8_t* data, size_t size, PackedWeight* out);

// Scales and biases that are stored as codes become floats; they go to `floats`, which must live as long as the weight.
Status ReadChannels(PackedWeight* weight, std::unique_ptr<float[]>* floats);

// A weight of floats as they are. Its scales, all 1, go to `ones`, which must live as long and has room for num_channels.
PackedWeight PlainWeight(const PlainValues& plain, uint32_t num_channels, uint32_t channel_elements, float* ones);

// Bytes at the start of a tile of `rows` rows that every tile of this coding has: planes, states. For `raw` the whole tile.
uint64_t FixedTileBytes(Codec codec, uint8_t raw_bits, uint64_t ids);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_PACKED_H_
