#include "core/crc32.h"

#include <cstring>

namespace tflite_smart {
namespace {

// Slicing by 8 (Kounavis and Berry 2005): eight look-ups, independent of each other, per eight bytes. More would be more tables than time saved, as would eight be where
// FastCrc32 leaves them the ends.
#if defined(__x86_64__)
constexpr int kSlices = 4;
#else
constexpr int kSlices = 8;
#endif

struct Tables {
  uint32_t t[kSlices][256];

  constexpr Tables() : t() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1 ? 0xEDB88320u : 0);
      t[0][i] = c;
    }
    for (int slice = 1; slice < kSlices; ++slice) {
      for (uint32_t i = 0; i < 256; ++i) t[slice][i] = (t[slice - 1][i] >> 8) ^ t[0][t[slice - 1][i] & 255];
    }
  }
};

constexpr Tables kTables;

}  // namespace

uint32_t Crc32(uint32_t crc, const uint8_t* data, size_t size) {
  static const bool fast = HasFastCrc32();
  crc = ~crc;
  if (fast && size >= 64) {
    const size_t part = size & ~static_cast<size_t>(15);
    crc = FastCrc32(crc, data, part);
    data += part;
    size -= part;
  }
  for (; size >= kSlices; size -= kSlices, data += kSlices) {
    uint8_t block[kSlices];
    std::memcpy(block, data, kSlices);
    for (int i = 0; i < 4; ++i) block[i] ^= static_cast<uint8_t>(crc >> (8 * i));
    crc = 0;
    for (int i = 0; i < kSlices; ++i) crc ^= kTables.t[kSlices - 1 - i][block[i]];
  }
  for (; size > 0; --size, ++data) crc = (crc >> 8) ^ kTables.t[0][(crc ^ *data) & 255];
  return ~crc;
}

}  // namespace tflite_smart
