// Compares the decoders of every instruction set of this processor with scalar code, bit for bit, without Python or TFLite: for machines on which only a
// program runs, such as an emulated 32-bit ARM.
//   self_test     prints what failed, a digest of everything encoded and decoded (the same on every machine), "N passed, N failed"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/alias_tables.h"
#include "core/crc32.h"
#include "core/encode.h"
#include "core/tile_decoder.h"
#include "kernels/isa.h"

namespace {

using namespace tflite_smart;

int passed = 0, failed = 0;
uint32_t digest = 0;

void Check(bool good, const char* what, const char* isa) {
  good ? ++passed : ++failed;
  if (!good) std::printf("FAILED %s, %s\n", what, isa);
}

// xorshift64*: the same numbers with every C++ library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint32_t Next(uint32_t limit) {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32) % limit;
  }
  // Near Gaussian: a sum of integers, the same on every machine.
  int8_t Id(uint32_t spread) {
    if (Next(100) == 0) return static_cast<int8_t>(static_cast<int>(Next(256)) - 128);
    int sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<int>(Next(spread + 1));
    return static_cast<int8_t>(std::clamp(sum - static_cast<int>(2 * spread), -128, 127));
  }

 private:
  uint64_t state_;
};

// One tile as a packed weight of one panel, built without a header: what damages a tile need not get past the checks of Open().
struct Tile {
  std::vector<uint8_t> bytes;
  PackedWeight weight = {};

  Tile(const EncoderSettings& settings, const std::vector<uint8_t>& tile, uint32_t rows) : bytes(kHeaderBytes + tile.size() + kReadableBytes) {
    std::memcpy(bytes.data() + kHeaderBytes, tile.data(), tile.size());
    weight.payload_bytes = static_cast<uint32_t>(tile.size());
    weight.codec = settings.codec;
    weight.num_channels = kLanes;
    weight.channel_elements = rows;
    weight.panels_per_tile = weight.num_panels = weight.num_tiles = 1;
    weight.payload = bytes.data() + kHeaderBytes;
    weight.coding.raw_bits = settings.raw_bits;
    weight.coding.base = settings.base;
    weight.coding.has_escape = settings.has_escape;
    const bool rans = settings.codec == Codec::kRans;
    weight.coding.escape = static_cast<uint8_t>(rans ? settings.num_symbols - 1 : (1 << settings.raw_bits) - 1);
    if (rans) weight.coding.tables = BuildAliasTables(settings.frequency);
  }
};

// All settings that the format allows, one of each codec, number of raw bits and escape.
std::vector<EncoderSettings> AllSettings() {
  std::vector<EncoderSettings> all = {{Codec::kRaw, 0, 0, 0, false, {}}, {Codec::kSparse, 0, 0, 0, false, {}}};
  for (const bool escape : {false, true}) {
    for (int bits = escape ? 1 : 0; bits <= kMaxBitpackBits; ++bits) {
      const int8_t base = static_cast<int8_t>(-((1 << bits) / 2));
      all.push_back({Codec::kBitpack, static_cast<uint8_t>(bits), base, 0, escape, {}});
    }
    for (int bits = 0; bits <= kMaxRansRawBits; ++bits) {
      EncoderSettings rans = {Codec::kRans, static_cast<uint8_t>(bits), static_cast<int8_t>(-(7 << bits)), 15, escape, {}};
      int rest = kSlots;
      for (int s = 0; s < 14; ++s) rest -= rans.frequency[s] = static_cast<uint8_t>(1 + 30 / (1 + std::abs(s - 7)));
      rans.frequency[14] = static_cast<uint8_t>(rest);
      all.push_back(rans);
    }
  }
  return all;
}

// What an id must be so that the coding without an escape has a code for it.
int8_t Codable(const EncoderSettings& settings, int8_t id) {
  if (settings.has_escape || settings.codec == Codec::kRaw || settings.codec == Codec::kSparse) return id;
  const int codes = settings.codec == Codec::kRans ? settings.num_symbols << settings.raw_bits : 1 << settings.raw_bits;
  return static_cast<int8_t>(std::clamp<int>(id, settings.base, std::min(127, settings.base + codes - 1)));
}

struct Decoded {
  std::vector<int8_t> ids;
  bool good = false;
  bool operator==(const Decoded& other) const { return good == other.good && ids == other.ids; }
};

// Decodes the tile `count` times side by side.
Decoded Decode(const Tile& tile, const char* isa, uint32_t count) {
  ForceIsa(isa);
  Decoded out;
  const size_t num_ids = static_cast<size_t>(tile.weight.tile_rows(0)) * kLanes;
  out.ids.assign(count * num_ids, 0);
  TileDecoder decoders[kMaxSideBySide];
  TileDecoder* pointers[kMaxSideBySide];
  for (uint32_t i = 0; i < count; ++i) decoders[i].Start(tile.weight, 0), pointers[i] = &decoders[i];
  const uint64_t rows = decoders[0].rows_left();
  // In two pieces: the state between them counts too.
  for (const uint64_t piece : {rows / 3, rows - rows / 3}) {
    int8_t* ids[kMaxSideBySide];
    for (uint32_t i = 0; i < count; ++i) ids[i] = out.ids.data() + i * num_ids + (rows - decoders[0].rows_left()) * kLanes;
    count > 1 ? TileDecoder::NextSideBySide(pointers, count, piece, ids) : decoders[0].Next(piece, ids[0]);
  }
  out.good = true;
  for (uint32_t i = 0; i < count; ++i) out.good = decoders[i].Finish().ok() && out.good;
  if (std::strcmp(isa, "scalar") == 0) digest = Crc32(digest, reinterpret_cast<const uint8_t*>(out.ids.data()), out.ids.size());
  return out;
}

void CheckTile(const Tile& tile, const char* what) {
  for (uint32_t count = 1; count <= kMaxSideBySide; ++count) {
    const Decoded scalar = Decode(tile, "scalar", count);
    for (int i = 1; AvailableIsa(i) != nullptr; ++i) Check(Decode(tile, AvailableIsa(i)->name, count) == scalar, what, AvailableIsa(i)->name);
  }
}

void CheckCoding(const EncoderSettings& settings, uint32_t rows, Random* random) {
  char what[96];
  std::snprintf(what, sizeof(what), "codec %d, %d raw bits, escape %d, %u rows", static_cast<int>(settings.codec), settings.raw_bits, settings.has_escape, rows);
  std::vector<int8_t> ids(static_cast<size_t>(rows) * kLanes);
  for (int8_t& id : ids) id = Codable(settings, random->Id(6));
  std::vector<uint8_t> bytes(static_cast<size_t>(EncodeBound(settings, ids.size())));
  uint64_t size = 0;
  const Status status = EncodeTile(settings, ids.data(), ids.size(), bytes.data(), &size);
  bytes.resize(static_cast<size_t>(size));
  digest = Crc32(digest, bytes.data(), bytes.size());
  const Tile tile(settings, bytes, rows);
  Check(status.ok() && Decode(tile, "scalar", 1).ids == ids, what, "scalar round trip");
  CheckTile(tile, what);

  std::strncat(what, ", damaged", sizeof(what) - std::strlen(what) - 1);
  for (int damage = 0; damage < 8 && !bytes.empty(); ++damage) {
    std::vector<uint8_t> damaged = bytes;
    for (uint32_t hit = random->Next(8) + 1; hit > 0; --hit) damaged[random->Next(static_cast<uint32_t>(size))] = static_cast<uint8_t>(random->Next(256));
    // Bytes that are too many, at the end: counts that don't meet. (Too few are refused before decoding.)
    damaged.resize(damaged.size() + (settings.codec == Codec::kRans || settings.codec == Codec::kSparse ? random->Next(40) : 0));
    CheckTile(Tile(settings, damaged, rows), what);
  }
}

}  // namespace

int main() {
  Random random(2101);
  for (const EncoderSettings& settings : AllSettings()) {
    for (const uint32_t rows : {1u, 2u, 3u, 7u, 64u, 289u}) CheckCoding(settings, rows, &random);
  }
  std::printf("instruction sets:");
  for (int i = 0; AvailableIsa(i) != nullptr; ++i) std::printf(" %s", AvailableIsa(i)->name);
  std::printf("\ndigest %08x\n%d passed, %d failed\n", digest, passed, failed);
  return failed == 0 ? 0 : 1;
}
