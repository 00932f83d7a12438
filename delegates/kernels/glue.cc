#include "kernels/glue.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/conv2d.h"
#include "kernels/isa.h"
#include "kernels/panel_schedule.h"

namespace tflite_smart {
namespace {

// Floats; fewer are not worth another thread, unless they lie in its cache.
constexpr int64_t kMinPart = 4096;

// run(begin, end) for the parts of `total` rows of `floats` that each thread has mostly written itself, cut at multiples of `step`.
template <typename Run>
Status ForParts(Runtime* runtime, int64_t total, int64_t floats, int64_t step, const Run& run) {
  if (total == 0) return Status();  // then there may be no memory either
  const int64_t worth = total * std::max<int64_t>(floats, 1) / kMinPart;
  const Cuts cuts = Cuts::Make(total, step, std::min<int64_t>(runtime->threads.num_threads(), worth));
  return runtime->threads.ParallelFor(static_cast<size_t>(cuts.parts), [&](size_t i) {
    run(cuts.Begin(static_cast<int64_t>(i)), cuts.Begin(static_cast<int64_t>(i) + 1));
    return Status();
  });
}

// Drops axes of one element, and joins neighbours through which both inputs run on, so that the last axis becomes as long as can be.
void Simplify(BinaryOperands* o) {
  int last = -1;
  for (int i = 0; i < o->axes; ++i) {
    if (o->sizes[i] == 1) continue;
    const int64_t size = o->sizes[i];
    const bool joins = last >= 0 && o->a_strides[last] == o->a_strides[i] * size && o->b_strides[last] == o->b_strides[i] * size;
    if (!joins) o->sizes[++last] = 1;
    o->sizes[last] *= size;
    o->a_strides[last] = o->a_strides[i];
    o->b_strides[last] = o->b_strides[i];
  }
  if (last < 0) {
    o->sizes[0] = 1;
    o->a_strides[0] = o->b_strides[0] = 1;
  }
  o->axes = std::max(last, 0) + 1;
}

// All but the last axis of simplified operands, at a row's number.
struct BinaryPosition {
  int64_t a = 0, b = 0;

  BinaryPosition(const BinaryOperands& o, int64_t row) {
    for (int i = o.axes - 2; i >= 0; --i) {
      a += row % o.sizes[i] * o.a_strides[i];
      b += row % o.sizes[i] * o.b_strides[i];
      row /= o.sizes[i];
    }
  }
};

}  // namespace

Limits LimitsOf(Activation activation) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (activation) {
    case Activation::kNone: break;
    case Activation::kRelu: return {0.0f, kInfinity};
    case Activation::kReluN1To1: return {-1.0f, 1.0f};
    case Activation::kRelu6: return {0.0f, 6.0f};
  }
  return {-kInfinity, kInfinity};
}

Status RunBinary(Runtime* runtime, Binary binary, BinaryOperands o, Activation activation) {
  Simplify(&o);
  const int inner = o.axes - 1;
  // p - q = -(q - p): the sign changes in a second pass.
  if (binary == Binary::kSub && o.a_strides[inner] == 0 && o.b_strides[inner] != 0) {
    constexpr float kMinusOne = -1.0f;
    int64_t count = 1;
    for (int i = 0; i < o.axes; ++i) count *= o.sizes[i];
    std::swap(o.a, o.b);
    std::swap(o.a_strides, o.b_strides);
    TFS_RETURN_IF_ERROR(RunBinary(runtime, binary, o, Activation::kNone));
    return RunBinary(runtime, Binary::kMul, {1, {count}, {1}, {0}, o.y, &kMinusOne, o.y}, activation);
  }
  if (o.a_strides[inner] == 0 && o.b_strides[inner] != 0) {  // the kernel takes one number on the right only
    std::swap(o.a, o.b);
    std::swap(o.a_strides, o.b_strides);
  }
  const int64_t count = o.sizes[inner];
  int64_t rows = 1;
  for (int i = 0; i < inner; ++i) rows *= o.sizes[i];
  const Limits limits = LimitsOf(activation);
  const auto run = ActiveIsa().f32->binary;
  const bool one_b = o.b_strides[inner] == 0;
  if (rows == 1) {
    return ForParts(runtime, count, 1, 64, [&](int64_t begin, int64_t end) {
      run(binary, {o.a + begin, one_b ? o.b : o.b + begin, one_b, static_cast<size_t>(end - begin), limits.min, limits.max, o.y + begin});
    });
  }
  return ForParts(runtime, rows, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const BinaryPosition at(o, row);
      run(binary, {o.a + at.a, o.b + at.b, one_b, static_cast<size_t>(count), limits.min, limits.max, o.y + row * count});
    }
  });
}

Status RunTranspose(Runtime* runtime, BinaryOperands o) {
  for (int i = 0; i < o.axes; ++i) o.b_strides[i] = o.a_strides[i];
  Simplify(&o);
  const int inner = o.axes - 1;
  const int64_t count = o.sizes[inner], stride = o.a_strides[inner];
  int64_t rows = 1;
  for (int i = 0; i < inner; ++i) rows *= o.sizes[i];
  return ForParts(runtime, rows, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = o.a + BinaryPosition(o, row).a;
      float* y = o.y + row * count;
      if (stride == 1) std::memcpy(y, x, static_cast<size_t>(count) * sizeof(float));
      else for (int64_t i = 0; i < count; ++i) y[i] = x[i * stride];
    }
  });
}

Status AddTo(Runtime* runtime, const float* x, int64_t count, Activation activation, float* y) {
  return RunBinary(runtime, Binary::kAdd, {1, {count}, {1}, {1}, y, x, y}, activation);
}

Status RunCurve(Runtime* runtime, Curve curve, const float* x, int64_t count, float* y) {
  const FloatKernels& kernels = *ActiveIsa().f32;
  const auto run = curve == Curve::kSwish      ? kernels.swish
                   : curve == Curve::kLogistic ? kernels.logistic
                   : curve == Curve::kGelu     ? kernels.gelu
                                               : kernels.hard_swish;
  return ForParts(runtime, count, 1, 64, [&](int64_t begin, int64_t end) { run(x + begin, static_cast<size_t>(end - begin), y + begin); });
}

Status RunRsqrt(Runtime* runtime, const float* x, int64_t count, float* y) {
  return ForParts(runtime, count, 1, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = 1.0f / std::sqrt(x[i]);
  });
}

namespace {

// Of a row: 16 neighbours side by side, then those.
float Sum(const float* x, int64_t count) {
  constexpr int64_t kSide = 16;
  float sums[kSide] = {};
  const int64_t whole = count / kSide * kSide;
  if (whole > 0) ActiveIsa().f32->sum_rows(x, static_cast<size_t>(whole / kSide), kSide, kSide, 1.0f, sums);
  for (int64_t i = whole; i < count; ++i) sums[i - whole] += x[i];
  float sum = 0.0f;
  for (const float s : sums) sum += s;
  return sum;
}

constexpr int64_t kMeanParts = 8;

// Whether a mean is taken of the means of parts of the rows: so that every thread reads the rows that it has written. By the shape alone: threads
// change no sum.
bool IsMeanInParts(const MeanShape& s) {
  return s.reduced * s.inner >= 2 * kMinPart && s.reduced >= 4 * kMeanParts && s.inner * kMeanParts <= static_cast<int64_t>(kBatchFloats);
}

Status RunMeanInParts(Runtime* runtime, const MeanShape& s, float scale, const float* x, float* y) {
  ScratchPool::Lease scratch(&runtime->scratch);
  if (scratch.get() == nullptr) return NoScratch();
  const size_t inner = static_cast<size_t>(s.inner);
  const auto sum_rows = ActiveIsa().f32->sum_rows;
  const Cuts rows = Cuts::Make(s.reduced, 1, kMeanParts);
  float* const sums = scratch->panels;  // [kMeanParts][inner]
  TFS_RETURN_IF_ERROR(ForParts(runtime, kMeanParts, s.reduced * s.inner / kMeanParts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = rows.Begin(i);
      sum_rows(x + row * s.inner, static_cast<size_t>(rows.Begin(i + 1) - row), inner, inner, scale, sums + i * s.inner);
    }
  }));
  sum_rows(sums, kMeanParts, inner, inner, 1.0f, y);
  return Status();
}

}  // namespace

Status RunMean(Runtime* runtime, const MeanShape& s, const float* x, float* y) {
  if (s.reduced == 0) {  // of nothing: x may be null
    std::fill_n(y, s.outer * s.inner, std::numeric_limits<float>::quiet_NaN());
    return Status();
  }
  const float scale = 1.0f / static_cast<float>(s.reduced);
  if (s.inner == 1) {
    return ForParts(runtime, s.outer, s.reduced, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = scale * Sum(x + i * s.reduced, s.reduced);
    });
  }
  const bool in_parts = IsMeanInParts(s);
  for (int64_t i = 0; i < s.outer; ++i, x += s.reduced * s.inner, y += s.inner) {
    if (in_parts) {
      TFS_RETURN_IF_ERROR(RunMeanInParts(runtime, s, scale, x, y));
      continue;
    }
    TFS_RETURN_IF_ERROR(ForParts(runtime, s.inner, s.reduced, 64, [&](int64_t begin, int64_t end) {
      ActiveIsa().f32->sum_rows(x + begin, static_cast<size_t>(s.reduced), static_cast<size_t>(s.inner), static_cast<size_t>(end - begin), scale,
                                y + begin);
    }));
  }
  return Status();
}

namespace {

// One output pixel.
void PoolWindow(Pool pool, const ConvGeometry& g, const Limits& limits, const float* image, int32_t y0, int32_t x0, float* y) {
  const FloatKernels& kernels = *ActiveIsa().f32;
  const int32_t top = std::max(y0, 0), bottom = std::min(y0 + g.filter_height, g.in_height);
  const int32_t left = std::max(x0, 0), right = std::min(x0 + g.filter_width, g.in_width);
  const size_t channels = static_cast<size_t>(g.in_channels);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float* sum = nullptr;
  for (int32_t row = top; row < bottom; ++row) {
    for (int32_t column = left; column < right; ++column) {
      const float* pixel = image + (static_cast<int64_t>(row) * g.in_width + column) * g.in_channels;
      if (sum != nullptr) kernels.binary(pool == Pool::kMax ? Binary::kMax : Binary::kAdd, {sum, pixel, false, channels, -kInfinity, kInfinity, y});
      sum = sum == nullptr ? pixel : y;
    }
  }
  const float scale = pool == Pool::kMax ? 1.0f : 1.0f / static_cast<float>((bottom - top) * (right - left));
  kernels.binary(Binary::kMul, {sum, &scale, true, channels, limits.min, limits.max, y});
}

}  // namespace

Status RunPool(Runtime* runtime, Pool pool, const ConvGeometry& g, Activation activation, const float* x, float* y) {
  const Limits limits = LimitsOf(activation);
  const int64_t work = static_cast<int64_t>(g.out_width) * g.in_channels * g.filter_height * g.filter_width;
  return ForParts(runtime, static_cast<int64_t>(g.batch) * g.out_height, work, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const float* image = x + line / g.out_height * g.in_height * g.in_width * g.in_channels;
      const int32_t y0 = static_cast<int32_t>(line % g.out_height) * g.stride_height - g.pad_top;
      for (int32_t i = 0; i < g.out_width; ++i) {
        PoolWindow(pool, g, limits, image, y0, i * g.stride_width - g.pad_left, y + (line * g.out_width + i) * g.in_channels);
      }
    }
  });
}

Status RunSoftmax(Runtime* runtime, int64_t rows, int64_t count, float beta, const float* x, float* y) {
  const auto softmax = ActiveIsa().f32->softmax;
  return ForParts(runtime, rows, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) softmax(x + i * count, static_cast<size_t>(count), beta, y + i * count);
  });
}

Status CopyRows(Runtime* runtime, int64_t rows, const RowCopy& c) {
  return ForParts(runtime, rows, c.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(c.out + i * c.out_stride, c.in + i * c.in_stride, static_cast<size_t>(c.count) * sizeof(float));
  });
}

}  // namespace tflite_smart
