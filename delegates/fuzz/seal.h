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

inline void Seal(uint8_t* data, size_t size) {
  if (size >= kHeaderBytes) Store32(Crc32(Crc32(0, data, field::kCrc), data + kHeaderBytes, size - kHeaderBytes), data + field::kCrc);
}

// Zero bytes at the end until there is a multiple of 4, and until the payload is followed by as many bytes as may be read.
inline void Align(std::vector<uint8_t>* blob) { blob->resize((blob->size() + 3) / 4 * 4); }

inline void MakeReadable(size_t payload_end, std::vector<uint8_t>* blob) {
  if (blob->size() - payload_end < kReadableBytes) blob->resize(payload_end + kReadableBytes);
}

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_SEAL_H_
