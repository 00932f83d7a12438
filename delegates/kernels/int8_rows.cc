// Packs rows of A for the integer GEMM: from int8, or from floats that are quantized on the way. No quantized copy of the input is ever kept.
#include "kernels/int8_parts.h"
#include "kernels/isa.h"
#include "kernels/window_runs.h"

namespace tflite_smart {
namespace {

// What lies outside the image: dynamic quantization turns it into the zero point.
alignas(64) const float kZeros[kInt8RowBytes] = {};

// pack(from, stride, first_row, rows, count, to) writes elements of some rows of A.
template <typename T, typename Pack>
void PackRows(const ConvGeometry& g, const Int8Rows& rows, const T* x, const T* outside, uint8_t* to, const Pack& pack) {
  x += static_cast<int64_t>(rows.group) * g.filter_in;
  if (RowsAreNeighbours(g)) {
    pack(x + rows.m * g.in_channels + rows.k, static_cast<size_t>(g.in_channels), 0, rows.count, rows.num_k, to);
    return;
  }
  const int64_t image_elements = static_cast<int64_t>(g.in_height) * g.in_width * g.in_channels;
  const uint32_t element_bytes = sizeof(int32_t) / ActiveIsa().i8->group;
  Position position(g, rows.m);
  for (uint32_t r = 0; r < rows.count; ++r, to += kInt8RowStride) {
    const T* const image = x + position.batch * image_elements;
    uint8_t* out = to;
    ForEachRun(g, position.InputY(g), position.InputX(g), rows.k, rows.num_k, [&](int64_t offset, uint32_t length) {
      pack(offset < 0 ? outside : image + offset, 0, r, 1, length, out);
      out += length * element_bytes;
    });
    position.Advance(g);
  }
}

}  // namespace

void PackInt8Rows(const Int8Layer& layer, const Int8Rows& rows, const Quantization* quantization, Int8Scratch* scratch) {
  const Int8Kernels& kernels = *ActiveIsa().i8;
  if (layer.dynamic == nullptr) {
    PackRows(layer.geometry, rows, layer.fixed->x, scratch->outside, scratch->rows,
             [&](const int8_t* from, size_t stride, uint32_t, uint32_t count, size_t num_k, uint8_t* to) {
               kernels.pack_rows(from, stride, count, num_k, to);
             });
    return;
  }
  PackRows(layer.geometry, rows, layer.dynamic->x, kZeros, scratch->rows,
           [&](const float* from, size_t stride, uint32_t first_row, uint32_t count, size_t num_k, uint8_t* to) {
             kernels.quantize_rows(from, stride, count, num_k, quantization + first_row, to);
           });
}

}  // namespace tflite_smart
