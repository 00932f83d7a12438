// CRC-32 as in zlib (reflected polynomial 0xEDB88320).
#ifndef TFLITE_SMART_CORE_CRC32_H_
#define TFLITE_SMART_CORE_CRC32_H_

#include <cstddef>
#include <cstdint>

namespace tflite_smart {

// Continues `crc` (0 to begin) over `size` bytes, so Crc32(Crc32(0, a), b) is the CRC of a followed by b.
uint32_t Crc32(uint32_t crc, const uint8_t* data, size_t size);

// crc32_pclmul.cc: the inner loop on processors that have the instructions. `crc` and the result are inverted, `size` is at least 64
// and a multiple of 16.
bool HasFastCrc32();
uint32_t FastCrc32(uint32_t crc, const uint8_t* data, size_t size);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_CRC32_H_
