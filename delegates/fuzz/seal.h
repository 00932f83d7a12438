// Right check sums for packed weights that a fuzzer has changed: without them nothing behind the CRCs would ever be reached.
#ifndef TFLITE_SMART_FUZZ_SEAL_H_
#define TFLITE_SMART_FUZZ_SEAL_H_

#include "core/crc32.h"
#include "core/format.h"
#include "fuzz/input.h"

namespace tflite_smart {
namespace fuzz {

inline uint32_t Load32(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

inline void Store32(uint32_t value, uint8_t* p) { std::memcpy(p, &value, sizeof(value)); }

// Both CRCs, where the length leaves room for what they cover.
inline void Seal(uint8_t* data, size_t size) {
  if (size < kHeaderBytes + kPaddingBytes) return;
  const size_t payload_bytes = Load32(data + field::kPayloadBytes), room = size - kHeaderBytes - kPaddingBytes;
  if (payload_bytes > room) return;
  const size_t payload = size - kPaddingBytes - payload_bytes;
  Store32(Crc32(0, data + payload, payload_bytes), data + field::kPayloadCrc);
  Store32(Crc32(Crc32(0, data, field::kHeaderCrc), data + kHeaderBytes, payload - kHeaderBytes), data + field::kHeaderCrc);
}

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_SEAL_H_
