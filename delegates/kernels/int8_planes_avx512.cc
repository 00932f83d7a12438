// multiply_planes_avx512: one row of A times a panel of `bitpack`, straight from the bit planes. No id is written anywhere, so that memory is the limit.
//
// READ FIRST
// * The planes of two rows of codes are one load; a byte permutation and one instruction that transposes matrices of 8 x 8 bits make 64 codes of them, as in
//   decode_avx512.cc, and two permutations four rows of codes to dwords of B.
// * Codes are multiplied, not ids: sum(a * (code + base)) = sum(a * code) + base * sum(a), which comes at the end.
// * Escapes are rare, but a branch that asks for them in every few rows is taken often enough to be mispredicted. So where they are is written down, one bit a
//   code, and what they change is added up later.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own _mm512_undefined_epi32()
#endif
#include <immintrin.h>

#include "kernels/int8_kernels.h"

namespace tflite_smart {
namespace {

constexpr size_t kChunk = 32;  // dwords of A
constexpr size_t kMasks = 2 * kChunk;  // of two rows each
constexpr int kRow = 32;
constexpr size_t kPrefetchBytes = 4096;

struct Planes {
  alignas(64) uint8_t first_index[64], dword_index[2][64];
  constexpr Planes() : first_index(), dword_index() {
    for (int i = 0; i < 64; ++i) first_index[i] = static_cast<uint8_t>(4 * (7 - i % 8) + i / 8 % 4);  // without the second row's distance
    for (int i = 0; i < 128; ++i) dword_index[i / 64][i % 64] = static_cast<uint8_t>(i % 4 * kRow + i / 4);
  }
};
constexpr Planes kPlanes;

// Of one chunk. masks: where its escapes are, in the order of the ids. One loop over all that there are, which ends where nobody expects it but once.
void AddEscapes(const Coding& coding, const uint64_t* masks, const uint8_t* a, TileState* state, const Int8PlanesTile& t) {
  const uint8_t* const end = state->end;
  const size_t most = state->stream_bytes;
  const int32_t instead_of = coding.base + coding.escape;
  int32_t *const sums = t.sums, *const id_sums = t.id_sums;
  size_t read = state->escapes_read;
  uint64_t some = 0;
  for (size_t i = 0; i < kMasks; i += 8) {
    const __m512i eight = _mm512_load_si512(masks + i);
    some |= static_cast<uint64_t>(_mm512_test_epi64_mask(eight, eight)) << i;
  }
  for (; some != 0; some &= some - 1) {
    const size_t pair = static_cast<size_t>(__builtin_ctzll(some));
    uint64_t mask = masks[pair];
    do {
      const size_t bit = static_cast<size_t>(__builtin_ctzll(mask)), lane = bit % kRow;
      const int32_t more = static_cast<int8_t>(*(end - 1 - (read < most ? read : most))) - instead_of;
      ++read;
      sums[lane] = static_cast<int32_t>(static_cast<uint32_t>(sums[lane]) + static_cast<uint32_t>(a[2 * pair + bit / kRow] * more));
      id_sums[lane] = static_cast<int32_t>(static_cast<uint32_t>(id_sums[lane]) + static_cast<uint32_t>(more));
      mask &= mask - 1;
    } while (mask != 0);
  }
  state->escapes_read = read;
}

int64_t SumOf(const uint8_t* a, size_t count) {
  __m512i sum = _mm512_setzero_si512();
  for (size_t i = 0; i < count; i += 64) {
    const __mmask64 mask = count - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (count - i)) - 1;
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_maskz_loadu_epi8(mask, a + i), _mm512_setzero_si512()));
  }
  return _mm512_reduce_add_epi64(sum);
}

template <bool kEscapes>
void Multiply(const Coding& coding, TileState* state, const Int8PlanesTile& t) {
  const size_t pair_bytes = 8 * size_t{coding.raw_bits};
  const __mmask64 loaded = (__mmask64{1} << pair_bytes) - 1, used = 0x0101010101010101u * (0xffu & 0xffu << (8 - coding.raw_bits));
  const __m512i next_row = _mm512_maskz_set1_epi8(~__mmask64{0} << 32, static_cast<char>(4 * coding.raw_bits));
  const __m512i byte_of_plane = _mm512_add_epi8(_mm512_load_si512(kPlanes.first_index), next_row);
  const __m512i units = _mm512_set1_epi64(static_cast<int64_t>(0x8040201008040201)), ones = _mm512_set1_epi8(1);
  const __m512i order0 = _mm512_load_si512(kPlanes.dword_index[0]), order1 = _mm512_load_si512(kPlanes.dword_index[1]);
  const __m512i escape = _mm512_set1_epi8(static_cast<char>(coding.escape));
  const auto codes_at = [&](const uint8_t* p) {
    const __m512i matrices = _mm512_maskz_permutexvar_epi8(used, byte_of_plane, _mm512_maskz_loadu_epi8(loaded, p));
    return _mm512_gf2p8affine_epi64_epi8(units, matrices, 0);
  };
  __m512i sum0 = _mm512_setzero_si512(), sum1 = sum0, ids0 = sum0, ids1 = sum0;
  const uint8_t *planes = state->planes, *a = t.a;
  alignas(64) uint64_t masks[kMasks] = {};
  for (size_t left = t.groups; left > 0;) {
    const size_t now = left < kChunk ? left : kChunk;
    if (kEscapes && now < kChunk) __builtin_memset(masks, 0, sizeof(masks));
    for (size_t g = 0; g < now; ++g, planes += 2 * pair_bytes) {
      _mm_prefetch(reinterpret_cast<const char*>(planes + kPrefetchBytes), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(planes + kPrefetchBytes + pair_bytes), _MM_HINT_T0);
      const __m512i rows01 = codes_at(planes), rows23 = codes_at(planes + pair_bytes);
      if (kEscapes) {
        masks[2 * g] = _mm512_cmpeq_epi8_mask(rows01, escape);
        masks[2 * g + 1] = _mm512_cmpeq_epi8_mask(rows23, escape);
      }
      const __m512i b0 = _mm512_permutex2var_epi8(rows01, order0, rows23), b1 = _mm512_permutex2var_epi8(rows01, order1, rows23);
      int32_t dword;
      __builtin_memcpy(&dword, a + g * sizeof(dword), sizeof(dword));
      const __m512i x = _mm512_set1_epi32(dword);
      sum0 = _mm512_dpbusd_epi32(sum0, x, b0);
      sum1 = _mm512_dpbusd_epi32(sum1, x, b1);
      ids0 = _mm512_dpbusd_epi32(ids0, ones, b0);
      ids1 = _mm512_dpbusd_epi32(ids1, ones, b1);
    }
    if (kEscapes) AddEscapes(coding, masks, a, state, t);
    left -= now;
    a += now * sizeof(int32_t);
  }
  state->planes = planes;
  const auto add = [](int32_t* to, __m512i more, int32_t same) {
    _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_add_epi32(_mm512_loadu_si512(to), more), _mm512_set1_epi32(same)));
  };
  const size_t k = t.groups * sizeof(int32_t);
  const int32_t base_sum = static_cast<int32_t>(coding.base * SumOf(t.a, k)), ids = coding.base * static_cast<int32_t>(k);
  add(t.sums, sum0, base_sum);
  add(t.sums + 16, sum1, base_sum);
  add(t.id_sums, ids0, ids);
  add(t.id_sums + 16, ids1, ids);
}

}  // namespace

void MultiplyPlanesAvx512(const Coding& coding, TileState* state, const Int8PlanesTile& tile) {
  (coding.has_escape ? Multiply<true> : Multiply<false>)(coding, state, tile);
}

}  // namespace tflite_smart
