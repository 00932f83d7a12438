// Target: the tile decoders of every codec. The input is made a valid header with the settings that it asks for, and the rest of it the tiles, as they are: what
// comes after Open() is all that is tried. Every instruction set decodes them in pieces, one to four side by side; all must write the ids and come to the verdict of the scalar
// code that decodes one tile whole.
//
//   bytes 0..39   a packed weight's header, every field brought into its range
//   bytes 40..55  proportions of the rANS frequencies
//   the rest      the tiles
#include "core/tile_decoder.h"
#include "fuzz/seal.h"

namespace {

using namespace tflite_smart;
using namespace tflite_smart::fuzz;

constexpr uint32_t kMaxChannels = 70, kMaxElements = 36;  // some rows, a narrow panel, a few tiles: small, so that many are tried

// Proportions to frequencies of the sum 256; at least two of the first `num_symbols` are not 0.
void SetFrequencies(const uint8_t* proportions, uint32_t num_symbols, uint8_t* frequency) {
  uint32_t total = 0, given = 0;
  for (uint32_t s = 0; s < num_symbols; ++s) total += proportions[s];
  for (uint32_t s = 0; s < kSymbols; ++s) {
    frequency[s] = static_cast<uint8_t>(s < num_symbols && total > 0 ? proportions[s] * 255u / total : 0);
    given += frequency[s];
  }
  const uint32_t rest = kSlots - given;  // at least 1
  if (frequency[0] + rest > 255) {
    frequency[1] = static_cast<uint8_t>(frequency[1] + 1);
    frequency[0] = static_cast<uint8_t>(frequency[0] + rest - 1);
  } else {
    frequency[0] = static_cast<uint8_t>(frequency[0] + rest);
  }
}

void Append32(uint32_t value, std::vector<uint8_t>* out) {
  out->resize(out->size() + 4);
  Store32(value, out->data() + out->size() - 4);
}

std::vector<uint8_t> MakeValid(Input* input) {
  std::vector<uint8_t> blob(kHeaderBytes);
  for (uint8_t& byte : blob) byte = input->Take<uint8_t>();
  uint8_t* h = blob.data();
  const Codec codec = static_cast<Codec>(h[field::kCodec] % 4);
  const bool plain = codec == Codec::kRaw || codec == Codec::kSparse, rans = codec == Codec::kRans;
  std::memcpy(h, "TFSW", 4);
  h[field::kVersion] = kVersion;
  h[field::kCodec] = static_cast<uint8_t>(codec);
  h[field::kValueKind] = 0;
  h[field::kRawBits] = static_cast<uint8_t>(plain ? 0 : h[field::kRawBits] % (1 + (rans ? kMaxRansRawBits : kMaxBitpackBits)));
  if (plain) h[field::kBase] = 0;
  h[field::kNumSymbols] = static_cast<uint8_t>(rans ? 2 + h[field::kNumSymbols] % 15 : 0);
  h[field::kHasEscape] = static_cast<uint8_t>(!plain && (rans || h[field::kRawBits] > 0) && h[field::kHasEscape] % 2);
  h[field::kScaleExponent] = 0;  // integers have no scales
  const uint32_t n = 1 + Load32(h + field::kNumChannels) % kMaxChannels, k = 1 + Load32(h + field::kChannelElements) % kMaxElements;
  const uint32_t panels = (n + kLanes - 1) / kLanes, per_tile = 1 + Load32(h + field::kPanelsPerTile) % panels;
  Store32(n, h + field::kNumChannels);
  Store32(k, h + field::kChannelElements);
  Store32(1, h + field::kInnerElements);
  Store32(per_tile, h + field::kPanelsPerTile);

  PackedWeight shape = {};
  shape.num_channels = n;
  shape.channel_elements = k;
  shape.panels_per_tile = per_tile;
  shape.num_panels = panels;
  shape.num_tiles = (panels + per_tile - 1) / per_tile;
  const uint8_t raw_bits = h[field::kRawBits], num_symbols = h[field::kNumSymbols];
  uint8_t proportions[kSymbols];
  for (uint8_t& proportion : proportions) proportion = input->Take<uint8_t>();
  // All tiles get their fixed part; what the input has more is dealt out in equal pieces.
  uint64_t fixed = 0, payload_bytes = 0;
  for (uint32_t t = 0; t < shape.num_tiles; ++t) fixed += FixedTileBytes(codec, raw_bits, shape.tile_ids(t));
  const uint64_t more = codec != Codec::kRaw && input->left() > fixed ? (input->left() - fixed) / shape.num_tiles : 0;
  std::vector<uint8_t> ends;
  for (uint32_t t = 0; t < shape.num_tiles; ++t) {
    payload_bytes += FixedTileBytes(codec, raw_bits, shape.tile_ids(t)) + more;
    if (t + 1 < shape.num_tiles) Append32(static_cast<uint32_t>(payload_bytes), &ends);
  }
  Store32(static_cast<uint32_t>(payload_bytes), blob.data() + field::kPayloadBytes);
  std::vector<uint8_t> payload = input->Rest();
  payload.resize(static_cast<size_t>(payload_bytes));
  blob.insert(blob.end(), payload.begin(), payload.end());
  const size_t payload_end = blob.size();
  Align(&blob);
  const size_t sections_at = blob.size();
  if (rans) {
    blob.resize(blob.size() + kSymbols);
    SetFrequencies(proportions, num_symbols, blob.data() + sections_at);
  }
  blob.insert(blob.end(), ends.begin(), ends.end());
  MakeReadable(payload_end, &blob);
  Seal(blob.data(), blob.size());
  return blob;
}

// `count` tiles side by side, in pieces of `piece` rows; the ids of one follow those of the other.
bool Decode(const PackedWeight& weight, uint32_t tile, uint32_t count, uint64_t piece, Exact<int8_t>* ids) {
  TileDecoder decoders[kMaxSideBySide];
  TileDecoder* pointers[kMaxSideBySide];
  const uint64_t rows = weight.tile_rows(tile);
  for (uint32_t i = 0; i < count; ++i) {
    FUZZ_CHECK(decoders[i].Start(weight, tile).ok());
    pointers[i] = &decoders[i];
  }
  for (uint64_t done = 0; done < rows;) {
    const uint64_t now = piece < rows - done ? piece : rows - done;
    int8_t* at[kMaxSideBySide];
    for (uint32_t i = 0; i < count; ++i) at[i] = ids->data() + (i * rows + done) * kLanes;
    FUZZ_CHECK((count > 1 ? TileDecoder::NextSideBySide(pointers, count, now, at) : decoders[0].Next(now, at[0])).ok());
    done += now;
  }
  bool good = true;
  for (uint32_t i = 0; i < count; ++i) good = decoders[i].Finish().ok() && good;
  return good;
}

void CheckTile(const PackedWeight& weight, uint32_t tile, uint32_t count, uint32_t piece) {
  const size_t ids_bytes = static_cast<size_t>(weight.tile_rows(tile)) * kLanes;
  Exact<int8_t> expected(ids_bytes);
  bool expected_good = false;
  OnEveryIsa([&](int isa) {
    if (isa == 0) expected_good = Decode(weight, tile, 1, weight.tile_rows(tile), &expected);
    Exact<int8_t> ids(count * ids_bytes);
    FUZZ_CHECK(Decode(weight, tile, count, piece, &ids) == expected_good);
    for (uint32_t i = 0; i < count; ++i) FUZZ_CHECK(std::memcmp(ids.data() + i * ids_bytes, expected.data(), ids_bytes) == 0);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const uint8_t way = size > field::kScaleExponent ? data[field::kScaleExponent] : 0;  // how to decode, which no header says
  const Exact<uint8_t> blob(MakeValid(&input));
  PackedWeight weight;
  const Status status = Open(blob.data(), blob.size(), &weight);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message);
  FUZZ_CHECK(status.ok());
  for (uint32_t tile = 0; tile < weight.num_tiles; ++tile) CheckTile(weight, tile, 1 + way % kMaxSideBySide, 1 + way / kMaxSideBySide % 9);
  return 0;
}
