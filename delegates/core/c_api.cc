// The C face of the core: checks arguments, turns Status into a code and a message.
#include <cstring>

#include "core/encode.h"
#include "core/packed.h"
#include "core/runtime.h"
#include "core/tile_decoder.h"
#include "core/trellis.h"
#include "kernels/expand.h"
#include "kernels/isa.h"
#include "tflite_smart.h"

namespace {

using namespace tflite_smart;

static_assert(sizeof(tfs_error::message) == sizeof(Status::message), "one message, two structs");
static_assert(TFS_CORRUPT == static_cast<int>(Code::kCorrupt) && TFS_OUT_OF_MEMORY == static_cast<int>(Code::kOutOfMemory), "");

int32_t Report(const Status& status, tfs_error* error) {
  if (!status.ok() && error != nullptr) std::memcpy(error->message, status.message, sizeof(error->message));
  return static_cast<int32_t>(status.code);
}

Status CheckSize(const char* name, uint64_t expected, uint64_t received) {
  if (expected == received) return Status();
  return MakeError(Code::kInvalidArgument, "%s must be %llu. Received: %s=%llu.", name, static_cast<unsigned long long>(expected), name,
                   static_cast<unsigned long long>(received));
}

// The last row decodes to 32 ids even if fewer are wanted: it goes through a buffer.
Status DecodeInPieces(const PackedWeight& weight, uint32_t tile, uint32_t piece_rows, int8_t* ids, uint64_t num_ids) {
  TileDecoder decoder;
  TFS_RETURN_IF_ERROR(decoder.Start(weight, tile));
  TFS_RETURN_IF_ERROR(CheckSize("num_ids", weight.tile_ids(tile), num_ids));
  const uint64_t whole_rows = num_ids / kLanes;
  for (uint64_t row = 0; row < whole_rows;) {
    const uint64_t left = whole_rows - row;
    const uint64_t rows = piece_rows == 0 || piece_rows > left ? left : piece_rows;
    TFS_RETURN_IF_ERROR(decoder.Next(rows, ids + row * kLanes));
    row += rows;
  }
  if (decoder.rows_left() > 0) {
    int8_t last[kLanes];
    TFS_RETURN_IF_ERROR(decoder.Next(1, last));
    std::memcpy(ids + whole_rows * kLanes, last, static_cast<size_t>(num_ids % kLanes));
  }
  return decoder.Finish();
}

Status Expand(const uint8_t* data, size_t size, void* output, uint64_t output_bytes) {
  PackedWeight weight;
  TFS_RETURN_IF_ERROR(Open(data, size, &weight));
  // A constant tensor of 2^62 elements fits in 100 bytes: compare elements, not bytes, so that nothing wraps round.
  const bool integer = weight.value_kind == ValueKind::kInteger;
  const uint32_t element_bytes = integer ? sizeof(int8_t) : sizeof(float);
  if (output_bytes % element_bytes != 0 || output_bytes / element_bytes != weight.num_elements()) {
    return MakeError(Code::kInvalidArgument, "packed weight: shape must be the output's: %llu elements of %u bytes. Received: output_bytes=%llu.",
                     static_cast<unsigned long long>(weight.num_elements()), element_bytes, static_cast<unsigned long long>(output_bytes));
  }
  std::unique_ptr<float[]> scales;
  TFS_RETURN_IF_ERROR(ReadChannels(&weight, &scales));
  Runtime runtime(1);
  if (integer) return ExpandInt8(&runtime, weight, static_cast<int8_t*>(output));
  return ExpandFloat(&runtime, weight, static_cast<float*>(output));
}

Status ToSettings(const tfs_coding* coding, EncoderSettings* out) {
  if (coding == nullptr) return MakeError(Code::kInvalidArgument, "coding must not be null.");
  if (coding->codec > 3 || coding->raw_bits > 7 || coding->num_symbols > kSymbols || coding->has_escape > 1 || coding->base < -128 ||
      coding->base > 127) {
    return MakeError(Code::kInvalidArgument, "coding must hold codec 0..3, raw_bits 0..7, num_symbols 0..16, has_escape 0..1, base -128..127. "
                     "Received: %u, %u, %u, %u, %d.", coding->codec, coding->raw_bits, coding->num_symbols, coding->has_escape, coding->base);
  }
  out->codec = static_cast<Codec>(coding->codec);
  out->raw_bits = static_cast<uint8_t>(coding->raw_bits);
  out->base = static_cast<int8_t>(coding->base);
  out->num_symbols = static_cast<uint8_t>(coding->num_symbols);
  out->has_escape = coding->has_escape != 0;
  std::memcpy(out->frequency, coding->frequencies, kSymbols);
  return Status();
}

Status Encode(const tfs_coding* coding, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t capacity, uint64_t* tile_bytes) {
  EncoderSettings settings;
  TFS_RETURN_IF_ERROR(ToSettings(coding, &settings));
  if (capacity < EncodeBound(settings, num_ids)) {
    return MakeError(Code::kInvalidArgument, "capacity must be at least tfs_encode_bound()=%llu. Received: capacity=%llu.",
                     static_cast<unsigned long long>(EncodeBound(settings, num_ids)), static_cast<unsigned long long>(capacity));
  }
  return EncodeTile(settings, ids, num_ids, tile, tile_bytes);
}

Status Round(const tfs_trellis_block* block, uint8_t* states, int8_t* ids, int8_t* values) {
  if (block->num_columns < 1 || block->num_columns > kMaxTrellisColumns) {
    return MakeError(Code::kInvalidArgument, "num_columns must be 1..%u. Received: num_columns=%u.", kMaxTrellisColumns, block->num_columns);
  }
  for (uint32_t n = 0; n < block->num_channels; ++n) {
    if (states[n] >= kTrellisStates) return MakeError(Code::kInvalidArgument, "states must be 0..7. Received: states[%u]=%u.", n, states[n]);
  }
  RoundBlock({block->weights, block->asked, block->matrix, block->importance, block->num_channels, block->num_columns, block->dependent != 0}, states, ids,
             values);
  return Status();
}

struct IsaNames {
  char text[64] = "";
  IsaNames() {
    for (int i = 0; AvailableIsa(i) != nullptr; ++i) {
      if (i > 0) std::strncat(text, " ", sizeof(text) - std::strlen(text) - 1);
      std::strncat(text, AvailableIsa(i)->name, sizeof(text) - std::strlen(text) - 1);
    }
  }
};

}  // namespace

extern "C" {

TFS_EXPORT const char* tfs_status_string(int32_t code) {
  switch (code) {
    case TFS_OK: return "ok";
    case TFS_INVALID_ARGUMENT: return "invalid argument";
    case TFS_CORRUPT: return "corrupt";
    case TFS_UNSUPPORTED: return "unsupported";
    case TFS_OUT_OF_MEMORY: return "out of memory";
  }
  return "unknown";
}

TFS_EXPORT const char* tfs_version(void) { return TFS_VERSION; }

TFS_EXPORT int32_t tfs_format_version(void) { return kVersion; }

TFS_EXPORT const char* tfs_isa_names(void) {
  static const IsaNames names;
  return names.text;
}

TFS_EXPORT const char* tfs_active_isa(void) { return ActiveIsa().name; }

TFS_EXPORT int32_t tfs_force_isa(const char* name, tfs_error* error) {
  if (ForceIsa(name)) return TFS_OK;
  return Report(MakeError(Code::kInvalidArgument, "isa must be one of '%s'. Received: isa='%.32s'.", tfs_isa_names(), name), error);
}

TFS_EXPORT int32_t tfs_open(const uint8_t* data, size_t size, tfs_info* info, tfs_error* error) {
  PackedWeight w;
  const Status status = Open(data, size, &w);
  if (status.ok() && info != nullptr) {
    *info = {static_cast<uint32_t>(w.codec), static_cast<uint32_t>(w.value_kind), w.coding.raw_bits, w.num_symbols, w.coding.has_escape,
             w.coding.base, w.num_channels, w.channel_elements, w.inner_elements, w.panels_per_tile, w.num_panels, w.num_tiles,
             w.payload_bytes};
  }
  return Report(status, error);
}

TFS_EXPORT int32_t tfs_decode_tile(const uint8_t* data, size_t size, uint32_t tile, uint32_t piece_rows, int8_t* ids, uint64_t num_ids,
                                   tfs_error* error) {
  PackedWeight weight;
  Status status = Open(data, size, &weight);
  if (status.ok()) status = DecodeInPieces(weight, tile, piece_rows, ids, num_ids);
  return Report(status, error);
}

TFS_EXPORT int32_t tfs_expand(const uint8_t* data, size_t size, void* output, uint64_t output_bytes, tfs_error* error) {
  return Report(Expand(data, size, output, output_bytes), error);
}

TFS_EXPORT uint64_t tfs_encode_bound(const tfs_coding* coding, uint64_t num_ids) {
  EncoderSettings settings;
  return ToSettings(coding, &settings).ok() ? EncodeBound(settings, num_ids) : 0;
}

TFS_EXPORT int32_t tfs_encode_tile(const tfs_coding* coding, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t capacity,
                                   uint64_t* tile_bytes, tfs_error* error) {
  return Report(Encode(coding, ids, num_ids, tile, capacity, tile_bytes), error);
}

TFS_EXPORT int32_t tfs_round_block(const tfs_trellis_block* block, uint8_t* states, int8_t* ids, int8_t* values, tfs_error* error) {
  return Report(Round(block, states, ids, values), error);
}

}  // extern "C"
