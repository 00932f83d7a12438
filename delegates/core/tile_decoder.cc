#include "core/tile_decoder.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"

namespace tflite_smart {
namespace {

// Codecs with a function per instruction set; `raw` is a copy.
DecodeRows RowDecoder(const DecodeKernels& kernels, Codec codec) {
  switch (codec) {
    case Codec::kRaw: return nullptr;
    case Codec::kBitpack: return kernels.bitpack;
    case Codec::kRans: return kernels.rans;
    case Codec::kSparse: return kernels.sparse;
  }
  return nullptr;
}

}  // namespace

Status TileDecoder::Start(const PackedWeight& weight, uint32_t tile) {
  if (tile >= weight.num_tiles) {
    return MakeError(Code::kInvalidArgument, "tile decoder: tile must be below %u. Received: tile=%u.", weight.num_tiles, tile);
  }
  weight_ = &weight;
  tile_ = tile;
  rows_left_ = weight.tile_rows(tile);
  const uint8_t* begin = weight.tile_begin(tile);
  const uint8_t* end = weight.tile_end(tile);
  const uint8_t* stream = begin;
  if (weight.codec != Codec::kRaw) {  // Open() made sure that the fixed part fits, so the cast is exact.
    stream += static_cast<size_t>(FixedTileBytes(weight.codec, weight.coding.raw_bits, weight.tile_ids(tile)));
  }
  state_.planes = begin;
  state_.stream = stream;
  state_.end = end;
  state_.stream_bytes = static_cast<size_t>(end - stream);
  state_.stream_read = 0;
  state_.escapes_read = 0;
  if (weight.codec == Codec::kRans) std::memcpy(state_.x, stream - kStateBytes, kStateBytes);
  return Status();
}

Status TileDecoder::Take(uint64_t rows) {
  if (rows > rows_left_) {
    return MakeError(Code::kInvalidArgument, "tile decoder: rows must be at most %llu, what tile %u has left. Received: rows=%llu.",
                     static_cast<unsigned long long>(rows_left_), tile_, static_cast<unsigned long long>(rows));
  }
  rows_left_ -= rows;
  return Status();
}

Status TileDecoder::NextInPlace(uint64_t rows, const int8_t** ids) {
  TFS_RETURN_IF_ERROR(Take(rows));
  *ids = reinterpret_cast<const int8_t*>(state_.stream);
  state_.stream += static_cast<size_t>(rows) * kLanes;
  return Status();
}

Status TileDecoder::NextByHand(uint64_t rows, TileState** state) {
  *state = &state_;
  return Take(rows);
}

Status TileDecoder::Next(uint64_t rows, int8_t* ids) {
  if (weight_->codec == Codec::kRaw) {  // the last row may read, not use, bytes behind the payload
    const int8_t* from;
    TFS_RETURN_IF_ERROR(NextInPlace(rows, &from));
    std::memcpy(ids, from, static_cast<size_t>(rows) * kLanes);
    return Status();
  }
  TFS_RETURN_IF_ERROR(Take(rows));
  RowDecoder(*ActiveIsa().decode, weight_->codec)(weight_->coding, &state_, static_cast<size_t>(rows), ids);
  return Status();
}

Status TileDecoder::NextSideBySide(TileDecoder* const* decoders, uint32_t count, uint64_t rows, int8_t* const* ids) {
  const DecodeKernels& kernels = *ActiveIsa().decode;
  uint32_t i = 0;
  while (i < count) {
    const uint32_t left = count - i;
    const bool four = left >= 3 && kernels.rans_four != nullptr;
    if (left == 1 || decoders[i]->weight_->codec != Codec::kRans) {
      TFS_RETURN_IF_ERROR(decoders[i]->Next(rows, ids[i]));
      ++i;
      continue;
    }
    const uint32_t now = std::min(left, four ? 4u : 2u);
    TileState* states[4];
    int8_t* to[4];
    for (uint32_t j = 0; j < now; ++j) {
      TFS_RETURN_IF_ERROR(decoders[i + j]->Take(rows));
      states[j] = &decoders[i + j]->state_;
      to[j] = ids[i + j];
    }
    TileState twin;  // of three the last is decoded twice, to the same place: faster than two and one
    if (now == 3) {
      twin = *states[2];
      states[3] = &twin;
      to[3] = to[2];
    }
    (four ? kernels.rans_four : kernels.rans_pair)(decoders[i]->weight_->coding, states, static_cast<size_t>(rows), to);
    i += now;
  }
  return Status();
}

Status TileDecoder::Finish() const {
  if (rows_left_ != 0) {
    return MakeError(Code::kInvalidArgument, "tile decoder: every row must be decoded before Finish(). Received: rows left=%llu.",
                     static_cast<unsigned long long>(rows_left_));
  }
  if (weight_->codec == Codec::kRaw) return Status();
  bool good = state_.stream_read + state_.escapes_read == state_.stream_bytes;
  if (weight_->codec == Codec::kRans) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) good &= state_.x[lane] == kStateStart;
  }
  if (good) return Status();
  return MakeError(Code::kCorrupt, "packed weight: tile_end must be the end of stream and escape list, in every state %u. Received: other "
                   "bytes or states in tile %u. The file is damaged: convert the model again.", kStateStart, tile_);
}

Status DecodeTile(const PackedWeight& weight, uint32_t tile, int8_t* ids) {
  TileDecoder decoder;
  TFS_RETURN_IF_ERROR(decoder.Start(weight, tile));
  TFS_RETURN_IF_ERROR(decoder.Next(decoder.rows_left(), ids));
  return decoder.Finish();
}

}  // namespace tflite_smart
