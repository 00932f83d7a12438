// Whether two outputs, as bytes, are the same numbers.
#ifndef TFLITE_SMART_FUZZ_COMPARE_H_
#define TFLITE_SMART_FUZZ_COMPARE_H_

#include <cmath>

#include "fuzz/input.h"

namespace tflite_smart {
namespace fuzz {

// Calls agree(a[i], b[i]) for all floats until it is false.
template <typename Agree>
bool AllFloats(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b, const Agree& agree) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i + 4 <= a.size(); i += 4) {
    float p, q;
    std::memcpy(&p, a.data() + i, 4);
    std::memcpy(&q, b.data() + i, 4);
    if (agree(p, q)) continue;
    std::fprintf(stderr, "output %zu: %g, expected %g\n", i / 4, static_cast<double>(p), static_cast<double>(q));
    return false;
  }
  return true;
}

inline bool BothNan(float p, float q) { return std::isnan(p) && std::isnan(q); }

inline bool Near(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b, float tolerance) {
  return AllFloats(a, b, [=](float p, float q) { return std::fabs(p - q) <= tolerance + 1e-4f * std::fabs(p) || BothNan(p, q); });
}

// Equal bit for bit, except that one NaN is as good as another.
inline bool SameFloats(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  return AllFloats(a, b, [](float p, float q) { return std::memcmp(&p, &q, 4) == 0 || BothNan(p, q); });
}

inline bool SameNans(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  return AllFloats(a, b, [](float p, float q) { return std::isnan(p) == std::isnan(q); });
}

}  // namespace fuzz
}  // namespace tflite_smart

#endif  // TFLITE_SMART_FUZZ_COMPARE_H_
