#include "kernels/matmul.h"

#include <algorithm>
#include <cstring>

#include "kernels/conv2d_parts.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// 32 columns of one matrix b, and all rows of a: what a convolution's panel is, but copied where that is decoded.
struct Product {
  const float* a;
  const float* b;
  float* y;
  uint32_t columns;
};

Product ProductAt(const MatMul& m, int64_t number) {
  const int64_t panels = (m.columns + kLanes - 1) / kLanes, column = number % panels * kLanes, batch = number / panels;
  Product p = {m.a, m.b + column * (m.transposed_b ? m.depth : 1), m.y + batch * m.rows * m.columns + column,
               static_cast<uint32_t>(std::min<int64_t>(kLanes, m.columns - column))};
  for (int64_t i = m.axes - 1, rest = batch; i >= 0; --i) {
    p.a += rest % m.sizes[i] * m.a_strides[i];
    p.b += rest % m.sizes[i] * m.b_strides[i];
    rest /= m.sizes[i];
  }
  return p;
}

// panel[i][j] = b[k + i][j], and 0 where there is no column.
void CopyPanel(const MatMul& m, const Product& p, int64_t k, uint32_t count, float* panel) {
  if (p.columns < kLanes) std::memset(panel, 0, count * kLanes * sizeof(float));
  for (uint32_t i = 0; i < count && !m.transposed_b; ++i) {
    std::memcpy(panel + i * kLanes, p.b + (k + i) * m.columns, p.columns * sizeof(float));
  }
  for (uint32_t j = 0; j < p.columns && m.transposed_b; ++j) {
    for (uint32_t i = 0; i < count; ++i) panel[i * kLanes + j] = p.b[j * m.depth + k + i];
  }
}

void RunTask(const MatMul& m, const Product& p, Scratch* scratch) {
  const FloatKernels& kernels = *ActiveIsa().f32;
  const uint32_t chunks = static_cast<uint32_t>((m.depth + kMaxChunk - 1) / kMaxChunk);
  const int64_t chunk = (m.depth + chunks - 1) / chunks;
  GemmTile tile = {};
  tile.b = scratch->panels;
  tile.c_stride = static_cast<size_t>(m.columns);
  tile.end_column = p.columns;
  for (int64_t k = 0; k < m.depth; k += chunk) {
    tile.k = static_cast<size_t>(std::min(chunk, m.depth - k));
    tile.accumulate = k != 0;
    CopyPanel(m, p, k, static_cast<uint32_t>(tile.k), scratch->panels);
    for (int64_t row = 0; row < m.rows; row += tile.rows) {
      const uint32_t whole = WholeBlock(m.rows - row);
      tile.rows = whole != 0 ? whole : static_cast<uint32_t>(m.rows - row);
      tile.a = whole != 0 ? p.a + row * m.depth + k : scratch->rows;
      tile.a_stride = whole != 0 ? static_cast<size_t>(m.depth) : kPackedRowStride;
      for (uint32_t r = 0; r < tile.rows && whole == 0; ++r) {
        std::memcpy(scratch->rows + r * kPackedRowStride, p.a + (row + r) * m.depth + k, tile.k * sizeof(float));
      }
      tile.c = p.y + row * m.columns;
      kernels.gemm(tile);
    }
  }
}

}  // namespace

Status RunMatMul(Runtime* runtime, const MatMul& m) {
  int64_t tasks = (m.columns + kLanes - 1) / kLanes;
  for (int i = 0; i < m.axes; ++i) tasks *= m.sizes[i];
  if (m.depth == 0) {
    std::fill_n(m.y, tasks == 0 ? 0 : tasks / ((m.columns + kLanes - 1) / kLanes) * m.rows * m.columns, 0.0f);
    return Status();
  }
  return runtime->threads.ParallelFor(static_cast<size_t>(tasks), [&](size_t i) {
    ScratchPool::Lease scratch(&runtime->scratch);
    if (scratch.get() == nullptr) return NoScratch();
    RunTask(m, ProductAt(m, static_cast<int64_t>(i)), scratch.get());
    return Status();
  });
}

}  // namespace tflite_smart
