// The three transforms of Winograd's F(2x2, 3x3) over `Vec` (see conv2d_winograd.cc); part of float_kernels-inl.h, which includes it.

namespace tflite_smart {
namespace {

static_assert(kWinogradTiles % Vec::kGemmRows == 0, "a GEMM tile would read rows past the last tile");

inline Vec Sub(Vec a, Vec b) { return MulAdd(b, Vec::Set(-1.0f), a); }  // exact product: the same as a subtraction

// B' d: one line of four.
inline void ToInput(Vec a, Vec b, Vec c, Vec d, Vec out[kWinogradEdge]) {
  out[0] = Sub(a, c);
  out[1] = Add(b, c);
  out[2] = Sub(c, b);
  out[3] = Sub(b, d);
}

template <bool kPart>
inline void InputBlock(const float* x, size_t row_stride, size_t pixel_stride, uint32_t lanes, float* v, size_t v_stride) {
  Vec columns[kWinogradEdge][kWinogradEdge];  // [column][row]
TFS_UNROLL
  for (int j = 0; j < kWinogradEdge; ++j) {
    Vec d[kWinogradEdge];
TFS_UNROLL
    for (int i = 0; i < kWinogradEdge; ++i) d[i] = LoadX<kPart>(x + i * row_stride + j * pixel_stride, lanes);
    ToInput(d[0], d[1], d[2], d[3], columns[j]);
  }
TFS_UNROLL
  for (int i = 0; i < kWinogradEdge; ++i) {
    Vec out[kWinogradEdge];
    ToInput(columns[0][i], columns[1][i], columns[2][i], columns[3][i], out);
TFS_UNROLL
    for (int j = 0; j < kWinogradEdge; ++j) out[j].Store(v + (i * kWinogradEdge + j) * v_stride);
  }
}

// May write up to the next multiple of kLanes channels.
void WinogradInput(const float* x, size_t row_stride, size_t pixel_stride, uint32_t channels, float* v, size_t v_stride) {
  uint32_t i = 0;
  for (; i + kLanes <= channels; i += kLanes) InputBlock<false>(x + i, row_stride, pixel_stride, 0, v + i, v_stride);
  if (i < channels) InputBlock<true>(x + i, row_stride, pixel_stride, channels - i, v + i, v_stride);
}

// 2 G g: one line of three. Twice of it: for both directions the caller takes a quarter of the weights.
inline void ToFilter(Vec a, Vec b, Vec c, Vec out[kWinogradEdge]) {
  const Vec ends = Add(a, c);
  out[0] = Add(a, a);
  out[1] = Add(ends, b);
  out[2] = Sub(ends, b);
  out[3] = Add(c, c);
}

void WinogradFilter(const int8_t* ids, size_t tap_stride, uint32_t channels, float offset, float* u, size_t u_stride) {
  const Vec add = Vec::Set(offset), quarter = Vec::Set(0.25f);
  for (size_t at = 0; at < static_cast<size_t>(channels) * kPanel; at += kLanes) {
    Vec columns[3][kWinogradEdge];  // [column][row]
TFS_UNROLL
    for (int j = 0; j < 3; ++j) {
      Vec g[3];
TFS_UNROLL
      for (int i = 0; i < 3; ++i) g[i] = Mul(Add(Vec::LoadIds(ids + (i * 3 + j) * tap_stride + at), add), quarter);
      ToFilter(g[0], g[1], g[2], columns[j]);
    }
TFS_UNROLL
    for (int i = 0; i < kWinogradEdge; ++i) {
      Vec out[kWinogradEdge];
      ToFilter(columns[0][i], columns[1][i], columns[2][i], out);
TFS_UNROLL
      for (int j = 0; j < kWinogradEdge; ++j) out[j].Store(u + (i * kWinogradEdge + j) * u_stride + at);
    }
  }
}

// A' m: one line of four.
inline void ToOutput(Vec a, Vec b, Vec c, Vec d, Vec out[2]) {
  const Vec sum = Add(b, c), difference = Sub(b, c);
  out[0] = Add(a, sum);
  out[1] = Sub(difference, d);
}

template <bool kPart>
inline void OutputBlock(const WinogradTile& t, uint32_t column) {
  const uint32_t lanes = t.columns - column;
  Vec columns[kWinogradEdge][2];  // [column][row]
TFS_UNROLL
  for (int j = 0; j < kWinogradEdge; ++j) {
    Vec m[kWinogradEdge];
TFS_UNROLL
    for (int i = 0; i < kWinogradEdge; ++i) m[i] = Vec::Load(t.m + (i * kWinogradEdge + j) * t.m_stride + column);
    ToOutput(m[0], m[1], m[2], m[3], columns[j]);
  }
TFS_UNROLL
  for (int i = 0; i < 2; ++i) {
    Vec out[2];
    ToOutput(columns[0][i], columns[1][i], columns[2][i], columns[3][i], out);
TFS_UNROLL
    for (int j = 0; j < 2; ++j) {
      if (t.c[i][j] == nullptr) continue;
      float* c = t.c[i][j] + column;
      Vec y = out[j];
      if (t.accumulate) y = Add(y, LoadX<kPart>(c, lanes));
      if (t.epilogue != nullptr) {
        const Epilogue& e = *t.epilogue;
        y = Clamp(MulAdd(LoadX<kPart>(e.scale + column, lanes), y, LoadX<kPart>(e.bias + column, lanes)), e);
      }
      if (kPart) {
        y.StoreFirst(c, lanes);
      } else {
        y.Store(c);
      }
    }
  }
}

void WinogradOutput(const WinogradTile& t) {
  uint32_t column = 0;
  for (; column + kLanes <= t.columns; column += kLanes) OutputBlock<false>(t, column);
  if (column < t.columns) OutputBlock<true>(t, column);
}

}  // namespace
}  // namespace tflite_smart
