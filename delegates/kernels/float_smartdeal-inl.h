// Value kind smartdeal over `Vec` (FORMAT.md section 1): ids to powers of two, powers of two to weights; part of float_kernels-inl.h, which includes it.
// All numbers are whole and below 2^24, so every order of the additions, fused or not, gives the same bits.

namespace tflite_smart {
namespace {

// c(id): the id's magnitude, shifted into place, is the exponent of a float. Plain code, which compilers turn into vector instructions.
void Coefficients(const int8_t* ids, size_t rows, float* values) {
  constexpr int kExponentOfHalf = 126, kMantissaBits = 23;
  for (size_t k = 0; k < rows; ++k, ids += kPanel, values += kPanel) {
    int32_t bits[kPanel];
    for (uint32_t j = 0; j < kPanel; ++j) {
      const int32_t id = ids[j];
      int32_t size = id < 0 ? -id : id;
      size = size < kCoefficientLimit ? size : kCoefficientLimit;
      bits[j] = (id == 0 ? 0 : (size + kExponentOfHalf) << kMantissaBits) | (id & INT32_MIN);
    }
    std::memcpy(values, bits, sizeof(bits));
  }
}

// One group: its first `have` elements lie `stride` floats apart.
template <uint32_t kSize>
inline void MixGroup(uint32_t size, uint32_t have, const float* basis, size_t stride, float* values) {
  if (kSize != 0) size = have = kSize;
  for (int v = 0; v < kPanelVecs; ++v, values += kLanes, basis += kLanes) {
    Vec coefficients[kGroupLimit];
    for (uint32_t j = 0; j < have; ++j) coefficients[j] = Vec::Load(values + j * stride);
    for (uint32_t s = 0; s < have; ++s) {
      Vec sum = Vec::Zero();  // so that a sum of zeros is +0
      for (uint32_t j = 0; j < have; ++j) sum = MulAdd(coefficients[j], Vec::Load(basis + (j * size + s) * kPanel), sum);
      sum.Store(values + s * stride);
    }
  }
}

void MixGroups(const GroupTile& t) {
  float basis[kGroupLimit * kGroupLimit * kPanel];
  const uint32_t rows = t.size * t.size;
  const size_t stride = static_cast<size_t>(t.stride) * kPanel;
  uint64_t group = t.first_group, slice_end = group;
  for (size_t block = 0; block < t.k; block += static_cast<size_t>(t.size) * t.stride) {
    for (uint32_t d = 0; d < t.stride; ++d, ++group) {
      if (group == slice_end) {
        const uint64_t slice = group / t.slice_groups;
        slice_end = (slice + 1) * t.slice_groups;
        const int8_t* from = t.basis + static_cast<size_t>(slice) * rows * t.basis_stride;
        for (uint32_t r = 0; r < rows; ++r) Dequantize(from + r * t.basis_stride, kPanel, 0.0f, basis + r * kPanel);
      }
      float* values = t.values + (block + d) * kPanel;
      const size_t rest = t.k - block;  // only a group of neighbours can be cut short
      if (t.size == 3 && rest >= 3) {
        MixGroup<3>(3, 3, basis, stride, values);
      } else {
        MixGroup<0>(t.size, rest < t.size ? static_cast<uint32_t>(rest) : t.size, basis, stride, values);
      }
    }
  }
}

}  // namespace
}  // namespace tflite_smart
