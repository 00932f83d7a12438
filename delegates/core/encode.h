// Encodes tiles, byte for byte as converter/codecs does (FORMAT.md section 4), for the converter's speed.
#ifndef TFLITE_SMART_CORE_ENCODE_H_
#define TFLITE_SMART_CORE_ENCODE_H_

#include <cstdint>

#include "core/format.h"
#include "core/status.h"

namespace tflite_smart {

// The header fields that a tile's bytes depend on.
struct EncoderSettings {
  Codec codec;
  uint8_t raw_bits;
  int8_t base;
  uint8_t num_symbols;  // rans
  bool has_escape;
  uint8_t frequency[kSymbols];  // rans
};

// The most bytes that EncodeTile can write.
uint64_t EncodeBound(const EncoderSettings& settings, uint64_t num_ids);

// `tile` has room for EncodeBound() bytes. An id without a code is an error unless the coding has an escape.
Status EncodeTile(const EncoderSettings& settings, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t* tile_bytes);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_ENCODE_H_
