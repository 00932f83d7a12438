// What lies between layers, over `Vec`; part of float_kernels-inl.h, which includes it.

namespace tflite_smart {
namespace {

template <Binary kBinary>
inline Vec Combine(Vec a, Vec b) {
  switch (kBinary) {
    case Binary::kAdd: return Add(a, b);
    case Binary::kSub: return {a.v - b.v};
    case Binary::kMul: return Mul(a, b);
    case Binary::kMax: return Max(a, b);
    case Binary::kSquaredDifference: return Mul({a.v - b.v}, {a.v - b.v});
  }
  return a;
}

template <Binary kBinary>
void Combine(const BinaryRow& r) {
  const Vec low = Vec::Set(r.min), high = Vec::Set(r.max), one = Vec::Set(*r.b);
  size_t i = 0;
  for (; i + kLanes <= r.count; i += kLanes) {
    const Vec y = Combine<kBinary>(Vec::Load(r.a + i), r.one_b ? one : Vec::Load(r.b + i));
    Min(high, Max(low, y)).Store(r.y + i);
  }
  if (i == r.count) return;
  const uint32_t rest = static_cast<uint32_t>(r.count - i);
  const Vec y = Combine<kBinary>(Vec::LoadFirst(r.a + i, rest), r.one_b ? one : Vec::LoadFirst(r.b + i, rest));
  Min(high, Max(low, y)).StoreFirst(r.y + i, rest);
}

void CombineRow(Binary binary, const BinaryRow& r) {
  switch (binary) {
    case Binary::kAdd: return Combine<Binary::kAdd>(r);
    case Binary::kSub: return Combine<Binary::kSub>(r);
    case Binary::kMul: return Combine<Binary::kMul>(r);
    case Binary::kMax: return Combine<Binary::kMax>(r);
    case Binary::kSquaredDifference: return Combine<Binary::kSquaredDifference>(r);
  }
}

// kVecs vectors of columns, the last one perhaps in part.
template <int kVecs>
inline void SumColumns(const float* x, size_t rows, size_t stride, float scale, float* y, int columns) {
  Vec sum[kVecs];
TFS_UNROLL
  for (int v = 0; v < kVecs; ++v) sum[v] = Vec::Zero();
  for (size_t r = 0; r < rows; ++r, x += stride) {
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) sum[v] = Add(sum[v], LoadLanes<kVecs == 1>(x + v * kLanes, columns));
  }
TFS_UNROLL
  for (int v = 0; v < kVecs; ++v) StoreLanes<kVecs == 1>(Mul(sum[v], Vec::Set(scale)), y + v * kLanes, columns);
}

void SumRows(const float* x, size_t rows, size_t stride, size_t columns, float scale, float* y) {
  constexpr size_t kBlock = 4 * kLanes;
  size_t i = 0;
  for (; i + kBlock <= columns; i += kBlock) SumColumns<4>(x + i, rows, stride, scale, y + i, static_cast<int>(kBlock));
  for (; i < columns; i += kLanes) SumColumns<1>(x + i, rows, stride, scale, y + i, static_cast<int>(columns - i < kBlock ? columns - i : kBlock));
}

}  // namespace
}  // namespace tflite_smart
