// How fast tiles decode and encode: codec x instruction set, one core. Prints billions of ids per second, the best of several runs.
//   bench_decode [ids per tile]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "core/alias_tables.h"
#include "core/encode.h"
#include "core/tile_decoder.h"
#include "kernels/isa.h"

namespace {

using namespace tflite_smart;
using Clock = std::chrono::steady_clock;

struct Workload {
  const char* name;
  EncoderSettings settings;
  std::vector<int8_t> ids;
  double entropy_bits;  // order 0, per id
};

double Entropy(const std::vector<int8_t>& ids) {
  double counts[256] = {}, bits = 0;
  for (int8_t id : ids) ++counts[id + 128];
  for (double c : counts) bits -= c > 0 ? c * std::log2(c / ids.size()) : 0;
  return bits / ids.size();
}

std::vector<int8_t> Gaussian(size_t count, double deviation) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal(0, deviation);
  std::vector<int8_t> ids(count);
  for (int8_t& id : ids) id = static_cast<int8_t>(std::lrint(std::clamp(normal(random), -127.0, 127.0)));
  return ids;
}

// Frequencies that fit `ids` well, not at best: the converter's planner is the judge of rates, this is about speed.
Workload RansWorkload(const char* name, std::vector<int8_t> ids, int raw_bits, int window, bool escape) {
  Workload w = {name, {Codec::kRans, static_cast<uint8_t>(raw_bits), static_cast<int8_t>(-((window / 2) << raw_bits)),
                       static_cast<uint8_t>(window + escape), escape, {}}, std::move(ids), 0};
  double counts[kSymbols] = {};
  for (int8_t& id : w.ids) {
    int symbol = (id - w.settings.base) >> raw_bits;
    if ((symbol < 0 || symbol >= window) && !escape) id = 0, symbol = window / 2;
    ++counts[symbol < 0 || symbol >= window ? window : symbol];
  }
  int sum = 0, largest = 0;
  for (int s = 0; s < window + escape; ++s) {
    const int f = std::max(1, static_cast<int>(counts[s] / w.ids.size() * kSlots));
    w.settings.frequency[s] = static_cast<uint8_t>(f);
    sum += f;
    if (f > w.settings.frequency[largest]) largest = s;
  }
  w.settings.frequency[largest] = static_cast<uint8_t>(w.settings.frequency[largest] + kSlots - sum);
  w.entropy_bits = Entropy(w.ids);
  return w;
}

Workload BitpackWorkload(const char* name, std::vector<int8_t> ids, int bits, bool escape) {
  const int codes = (1 << bits) - escape;
  Workload w = {name, {Codec::kBitpack, static_cast<uint8_t>(bits), static_cast<int8_t>(-(codes / 2)), 0, escape, {}}, std::move(ids), 0};
  if (!escape) {
    for (int8_t& id : w.ids) id = static_cast<int8_t>(std::clamp<int>(id, w.settings.base, w.settings.base + codes - 1));
  }
  w.entropy_bits = Entropy(w.ids);
  return w;
}

Workload SparseWorkload(const char* name, size_t count, double density) {
  std::mt19937 random(2);
  Workload w = {name, {Codec::kSparse, 0, 0, 0, false, {}}, std::vector<int8_t>(count), 0};
  for (int8_t& id : w.ids) id = random() < density * 4294967296.0 ? static_cast<int8_t>(random() % 31 - 15) : 0;
  w.entropy_bits = Entropy(w.ids);
  return w;
}

// Seconds of the fastest of many runs: what the machine can do, undisturbed.
template <typename Function>
double Fastest(Function function) {
  double best = 1e9;
  const auto end = Clock::now() + std::chrono::milliseconds(250);
  do {
    const auto start = Clock::now();
    function();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  } while (Clock::now() < end);
  return best;
}

constexpr uint32_t kTiles = kMaxSideBySide;

// The workload as a weight of equal tiles: one channel panel each.
struct EqualTiles {
  std::vector<uint8_t> bytes;
  uint32_t ends[kTiles] = {};
  PackedWeight weight = {};
  size_t tile_ids;

  explicit EqualTiles(const Workload& w) : tile_ids(w.ids.size()) {
    std::vector<uint8_t> tile(EncodeBound(w.settings, tile_ids));
    uint64_t size = 0;
    const Status status = EncodeTile(w.settings, w.ids.data(), tile_ids, tile.data(), &size);
    if (!status.ok()) std::printf("%s\n", status.message), std::exit(1);
    bytes.resize(kHeaderBytes + kTiles * size + kReadableBytes);
    for (uint32_t t = 0; t < kTiles; ++t) {
      std::memcpy(bytes.data() + kHeaderBytes + t * size, tile.data(), size);
      ends[t] = static_cast<uint32_t>((t + 1) * size);
    }
    weight.codec = w.settings.codec;
    weight.num_channels = kTiles * kLanes;
    weight.channel_elements = static_cast<uint32_t>(tile_ids / kLanes);
    weight.panels_per_tile = 1;
    weight.num_panels = weight.num_tiles = kTiles;
    weight.tile_ends = ends;
    weight.payload_bytes = ends[kTiles - 1];
    weight.payload = bytes.data() + kHeaderBytes;
    weight.coding.raw_bits = w.settings.raw_bits;
    weight.coding.base = w.settings.base;
    weight.coding.has_escape = w.settings.has_escape;
    const bool rans = w.settings.codec == Codec::kRans;
    weight.coding.escape = static_cast<uint8_t>(rans ? w.settings.num_symbols - 1 : (1 << w.settings.raw_bits) - 1);
    if (rans) weight.coding.tables = BuildAliasTables(w.settings.frequency);
  }
  double bits() const { return 8.0 * ends[0] / tile_ids; }
};

void Report(const Workload& w) {
  EqualTiles tiles(w);
  std::vector<int8_t> decoded[kTiles];
  for (auto& ids : decoded) ids.resize(tiles.tile_ids);
  std::vector<uint8_t> scratch(EncodeBound(w.settings, tiles.tile_ids));
  std::printf("%-28s %7.3f %7.3f", w.name, w.entropy_bits, tiles.bits());
  for (int i = 0; AvailableIsa(i) != nullptr; ++i) {
    ForceIsa(AvailableIsa(i)->name);
    Status status;
    const double one = Fastest([&] { status = DecodeTile(tiles.weight, 0, decoded[0].data()); });
    bool good = status.ok() && decoded[0] == w.ids;
    const double all = Fastest([&] {
      TileDecoder decoders[kTiles];
      TileDecoder* pointers[kTiles];
      int8_t* ids[kTiles];
      for (uint32_t t = 0; t < kTiles; ++t) {
        decoders[t].Start(tiles.weight, t);
        pointers[t] = &decoders[t];
        ids[t] = decoded[t].data();
      }
      status = TileDecoder::NextSideBySide(pointers, kTiles, decoders[0].rows_left(), ids);
      if (status.ok()) status = decoders[kTiles - 1].Finish();
    });
    for (const auto& ids : decoded) good &= status.ok() && ids == w.ids;
    std::printf("  %7.2f %7.2f%s", tiles.tile_ids / one * 1e-9, kTiles * tiles.tile_ids / all * 1e-9, good ? "" : " WRONG");
  }
  uint64_t size;
  const double encode = Fastest([&] { EncodeTile(w.settings, w.ids.data(), w.ids.size(), scratch.data(), &size); });
  std::printf("  %7.3f\n", tiles.tile_ids / encode * 1e-9);
}

// Ids of `dependent` to values, which comes on top of decoding them.
void ReportDependent(const std::vector<int8_t>& ids) {
  std::printf("%-28s %7s %7s", "dependent: ids to values", "", "");
  for (int i = 0; AvailableIsa(i) != nullptr; ++i) {
    uint8_t states[kLanes] = {};
    std::vector<int8_t> values = ids;
    const double seconds = Fastest([&] { AvailableIsa(i)->decode->dependent(states, values.size() / kLanes, values.data()); });
    std::printf("  %7.2f %7s", values.size() / seconds * 1e-9, "");
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  const size_t count = (argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 65536) / kLanes * kLanes;
  std::printf("%zu ids per tile. 10^9 ids/s: for each instruction set one tile at a time, %u side by side; last the encoder.\n", count, kTiles);
  std::printf("%-28s %7s %7s", "workload", "entropy", "coded");
  for (int i = 0; AvailableIsa(i) != nullptr; ++i) std::printf("  %7s %7s", AvailableIsa(i)->name, "x 4");
  std::printf("  %7s\n", "encode");
  Report({"raw", {Codec::kRaw, 0, 0, 0, false, {}}, Gaussian(count, 8), Entropy(Gaussian(count, 8))});
  Report(BitpackWorkload("bitpack 2 bits", Gaussian(count, 1), 2, false));
  Report(BitpackWorkload("bitpack 4 bits", Gaussian(count, 3), 4, false));
  Report(BitpackWorkload("bitpack 5 bits, escape", Gaussian(count, 6), 5, true));
  Report(BitpackWorkload("bitpack 5 bits, few escapes", Gaussian(count, 4.5), 5, true));
  Report(SparseWorkload("sparse 10 %", count, 0.1));
  Report(RansWorkload("rans, sd 1", Gaussian(count, 1), 0, 7, true));
  Report(RansWorkload("rans, sd 8", Gaussian(count, 8), 2, 15, true));
  Report(RansWorkload("rans, sd 20", Gaussian(count, 20), 3, 16, false));
  ReportDependent(Gaussian(count, 8));
  return 0;
}
