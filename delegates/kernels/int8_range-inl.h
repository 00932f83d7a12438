// How the files int8_*.cc widen a range one number at a time: scalar code all of it, the others what their vectors leave. To be included inside an
// unnamed namespace, so that every instruction set has its own.

// As Int8Kernels::widen_range. No minimum or maximum keeps a NaN on every machine, so `none` does: it becomes NaN with the first number that is not finite.
inline void WidenRangeOneByOne(const float* x, size_t count, float* range) {
  float none = 0.0f;
  for (size_t i = 0; i < count; ++i) {
    range[0] = x[i] < range[0] ? x[i] : range[0];
    range[1] = x[i] > range[1] ? x[i] : range[1];
    none += x[i] * 0.0f;
  }
  range[1] += none;
}
