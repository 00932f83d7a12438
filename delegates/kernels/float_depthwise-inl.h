// The depthwise inner loop over `Vec`; part of float_kernels-inl.h, which includes it.
//
// A block is some neighbouring positions x some vectors of channels, all in registers. For the usual windows the columns are known at
// compile time: an input vector is then loaded once and multiplied for every position whose window it lies in.

namespace tflite_smart {
namespace {

constexpr int kDepthwiseVecs = Vec::kRegisters / 16;
constexpr uint32_t kLongBlock = 8, kShortBlock = 4;
static_assert(kPanelVecs % kDepthwiseVecs == 0, "");

// Where one block of one line begins.
struct DepthwiseBlock {
  const float* x;
  const float* b;
  float* c;
  const float* scale;
  const float* bias;
  uint32_t lanes;  // channels of the block, if it has only a part of a vector
};

// A vector, or the first part of one whose rest does not exist.
template <bool kPart>
inline Vec LoadX(const float* p, uint32_t lanes) {
  return kPart ? Vec::LoadFirst(p, lanes) : Vec::Load(p);
}

template <int kPositions, int kVecs, bool kPart>
inline void StoreDepthwise(const DepthwiseLine& l, const DepthwiseBlock& at, Vec (&sum)[kPositions][kVecs]) {
  const Vec min = Vec::Set(l.min), max = Vec::Set(l.max);
TFS_UNROLL
  for (int v = 0; v < kVecs; ++v) {
    const Vec scale = LoadX<kPart>(at.scale + v * kLanes, at.lanes);
    const Vec bias = at.bias == nullptr ? Vec::Zero() : LoadX<kPart>(at.bias + v * kLanes, at.lanes);
TFS_UNROLL
    for (int p = 0; p < kPositions; ++p) {
      const Vec y = Min(max, Max(min, MulAdd(scale, sum[p][v], bias)));
      float* c = at.c + p * l.c_stride + v * kLanes;
      if (kPart) {
        y.StoreFirst(c, at.lanes);
      } else {
        y.Store(c);
      }
    }
  }
}

template <int kPositions, int kVecs>
inline void Clear(Vec (&sum)[kPositions][kVecs]) {
TFS_UNROLL
  for (int p = 0; p < kPositions; ++p) {
TFS_UNROLL
    for (int v = 0; v < kVecs; ++v) sum[p][v] = Vec::Zero();
  }
}

// Windows of kTaps columns, neighbours that are kStride pixels apart, no dilation.
template <int kTaps, int kStride>
struct KnownWindow {
  template <int kPositions, int kVecs, bool kPart>
  static inline void Run(const DepthwiseLine& l, const DepthwiseBlock& at) {
    Vec sum[kPositions][kVecs];
    Clear(sum);
    const float* x = at.x;
    const float* b = at.b;
    for (uint32_t row = 0; row < l.rows; ++row, x += l.row_stride, b += l.b_row_stride) {
      Vec w[kTaps][kVecs];
TFS_UNROLL
      for (int tap = 0; tap < kTaps; ++tap) {
TFS_UNROLL
        for (int v = 0; v < kVecs; ++v) w[tap][v] = Vec::Load(b + tap * kPanel + v * kLanes);
      }
      const float* pixel = x;
TFS_UNROLL
      for (int column = 0; column < (kPositions - 1) * kStride + kTaps; ++column, pixel += l.tap_stride) {
TFS_UNROLL
        for (int v = 0; v < kVecs; ++v) {
          const Vec value = LoadX<kPart>(pixel + v * kLanes, at.lanes);
TFS_UNROLL
          for (int p = 0; p < kPositions; ++p) {
            const int tap = column - p * kStride;
            if (tap >= 0 && tap < kTaps) sum[p][v] = MulAdd(value, w[tap][v], sum[p][v]);
          }
        }
      }
    }
    StoreDepthwise<kPositions, kVecs, kPart>(l, at, sum);
  }
};

// Any other window.
struct AnyWindow {
  template <int kPositions, int kVecs, bool kPart>
  static inline void Run(const DepthwiseLine& l, const DepthwiseBlock& at) {
    Vec sum[kPositions][kVecs];
    Clear(sum);
    for (uint32_t row = 0; row < l.rows; ++row) {
      const float* x = at.x + row * l.row_stride;
      const float* b = at.b + row * l.b_row_stride;
      for (uint32_t tap = 0; tap < l.taps; ++tap, x += l.tap_stride, b += kPanel) {
TFS_UNROLL
        for (int v = 0; v < kVecs; ++v) {
          const Vec w = Vec::Load(b + v * kLanes);
TFS_UNROLL
          for (int p = 0; p < kPositions; ++p) {
            sum[p][v] = MulAdd(LoadX<kPart>(x + p * l.position_stride + v * kLanes, at.lanes), w, sum[p][v]);
          }
        }
      }
    }
    StoreDepthwise<kPositions, kVecs, kPart>(l, at, sum);
  }
};

// All channels of kPositions positions.
template <class Window, int kPositions>
void DepthwisePositions(const DepthwiseLine& l, uint32_t position) {
  const float* x = l.x + position * l.position_stride;
  float* c = l.c + position * l.c_stride;
  for (uint32_t i = 0; i < l.channels;) {
    const uint32_t left = l.channels - i;
    const DepthwiseBlock at = {x + i, l.b + i / kPanel * l.b_panel_stride + i % kPanel, c + i, l.scale + i,
                               l.bias == nullptr ? nullptr : l.bias + i, left};
    if (left >= kDepthwiseVecs * kLanes && i % (kDepthwiseVecs * kLanes) == 0) {
      Window::template Run<kPositions, kDepthwiseVecs, false>(l, at);
      i += kDepthwiseVecs * kLanes;
    } else if (left >= static_cast<uint32_t>(kLanes)) {
      AnyWindow::Run<kPositions, 1, false>(l, at);
      i += kLanes;
    } else {
      AnyWindow::Run<kPositions, 1, true>(l, at);
      i += left;
    }
  }
}

template <class Window>
void DepthwiseWindow(const DepthwiseLine& l) {
  uint32_t p = 0;
  for (; p + kLongBlock <= l.positions; p += kLongBlock) DepthwisePositions<Window, kLongBlock>(l, p);
  for (; p + kShortBlock <= l.positions; p += kShortBlock) DepthwisePositions<Window, kShortBlock>(l, p);
  for (; p < l.positions; ++p) DepthwisePositions<AnyWindow, 1>(l, p);
}

void Depthwise(const DepthwiseLine& l) {
#if !defined(TFS_SMALL)
  const bool next = l.position_stride == l.tap_stride, second = l.position_stride == 2 * l.tap_stride;
  if (l.taps == 3 && next) return DepthwiseWindow<KnownWindow<3, 1>>(l);
  if (l.taps == 3 && second) return DepthwiseWindow<KnownWindow<3, 2>>(l);
  if (l.taps == 5 && next) return DepthwiseWindow<KnownWindow<5, 1>>(l);
  if (l.taps == 5 && second) return DepthwiseWindow<KnownWindow<5, 2>>(l);
#endif
  DepthwiseWindow<AnyWindow>(l);
}

}  // namespace
}  // namespace tflite_smart
