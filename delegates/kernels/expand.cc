#include "kernels/expand.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"
#include "kernels/panel_reader.h"

namespace tflite_smart {
namespace {

// FORMAT.md section 3: element (n, k) lies at (k / inner) * N * inner + n * inner + k % inner. With inner = 1 (channels last) the 32 channels
// of a row are neighbours; otherwise runs of k are, and the panel has to be transposed.
struct Target {
  uint64_t inner;
  uint64_t outer_stride;

  explicit Target(const PackedWeight& weight)
      : inner(weight.inner_elements), outer_stride(static_cast<uint64_t>(weight.num_channels) * weight.inner_elements) {}

  size_t Offset(uint32_t n, uint32_t k) const {
    return static_cast<size_t>(k / inner * outer_stride + n * inner + k % inner);
  }
  // k that follow k in the same run.
  uint32_t Run(uint32_t k, uint32_t end) const {
    return static_cast<uint32_t>(std::min<uint64_t>(end - k, inner - k % inner));
  }
};

void TransposeIds(const int8_t* ids, uint32_t rows, uint32_t columns, int8_t* out, size_t out_stride) {
  constexpr uint32_t kBlock = 64;  // a cache line on the side that is written
  for (uint32_t k = 0; k < rows; k += kBlock) {
    const uint32_t end = std::min(rows, k + kBlock);
    for (uint32_t j = 0; j < columns; ++j) {
      int8_t* line = out + j * out_stride;
      for (uint32_t i = k; i < end; ++i) line[i] = ids[static_cast<size_t>(i) * kLanes + j];
    }
  }
}

// Calls piece(first_channel, width, first_k, num_k) for all of a tile; `read` decodes the piece before.
template <typename Piece>
Status ForEachPiece(const PackedWeight& weight, uint32_t tile, Scratch* scratch, const Piece& piece) {
  PanelReader reader;
  const uint32_t first = weight.first_panel(tile);
  TFS_RETURN_IF_ERROR(reader.Start(weight, first, scratch->ids[0]));
  for (uint32_t panel = first; panel < first + weight.tile_panels(tile); ++panel) {
    for (uint32_t k = 0, num_k; k < weight.channel_elements; k += num_k) {
      num_k = std::min(weight.piece(kMaxChunk), weight.channel_elements - k);
      TFS_RETURN_IF_ERROR(piece(&reader, panel * kLanes, weight.panel_width(panel), k, num_k));
    }
  }
  return Status();
}

template <typename Piece>
Status ForEachTile(Runtime* runtime, const PackedWeight& weight, const Piece& piece) {
  return runtime->threads.ParallelFor(weight.num_tiles, [&](size_t tile) {
    ScratchPool::Lease scratch(&runtime->scratch);
    if (scratch.get() == nullptr) return NoScratch();
    return ForEachPiece(weight, static_cast<uint32_t>(tile), scratch.get(),
                        [&](PanelReader* reader, uint32_t n, uint32_t width, uint32_t k, uint32_t num_k) {
                          return piece(reader, scratch.get(), n, width, k, num_k);
                        });
  });
}

}  // namespace

Status ExpandFloat(Runtime* runtime, const PackedWeight& weight, float* out) {
  const Target target(weight);
  const FloatKernels& kernels = *ActiveIsa().f32;
  return ForEachTile(runtime, weight, [&](PanelReader* reader, Scratch* scratch, uint32_t n, uint32_t width, uint32_t k, uint32_t num_k) {
    TFS_RETURN_IF_ERROR(reader->Read(num_k, scratch->ids[0], scratch->panels));
    const float* scale = weight.scales + n;
    if (target.inner == 1) {
      kernels.scale_rows(scratch->panels, scale, num_k, width, out + target.Offset(n, k), weight.num_channels);
      return Status();
    }
    for (uint32_t i = 0, run; i < num_k; i += run) {
      run = target.Run(k + i, k + num_k);
      kernels.scale_transposed(scratch->panels + static_cast<size_t>(i) * kLanes, scale, run, width, out + target.Offset(n, k + i),
                               static_cast<size_t>(target.inner));
    }
    return Status();
  });
}

Status ExpandInt8(Runtime* runtime, const PackedWeight& weight, int8_t* out) {
  const Target target(weight);
  return ForEachTile(runtime, weight, [&](PanelReader* reader, Scratch* scratch, uint32_t n, uint32_t width, uint32_t k, uint32_t num_k) {
    int8_t* const ids = scratch->ids[0];
    TFS_RETURN_IF_ERROR(reader->ReadIds(num_k, ids));
    for (uint32_t i = 0, run; i < num_k; i += run) {
      run = target.inner == 1 ? 1 : target.Run(k + i, k + num_k);
      const int8_t* from = ids + static_cast<size_t>(i) * kLanes;
      int8_t* to = out + target.Offset(n, k + i);
      if (target.inner == 1) {
        std::memcpy(to, from, width);
      } else {
        TransposeIds(from, run, width, to, static_cast<size_t>(target.inner));
      }
    }
    return Status();
  });
}

}  // namespace tflite_smart
