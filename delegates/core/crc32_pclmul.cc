// CRC-32 by carry-less multiplication (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", Intel 2009): 64 bytes are folded
// onto the next 64 until less is left. Ten times the tables' speed, so that checking a payload costs less than reading it.
#include "core/crc32.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

namespace tflite_smart {
namespace {

#define TFS_PCLMUL __attribute__((target("pclmul,sse4.1")))

// Remainders of powers of x modulo the polynomial, bits reflected.
struct Constants {
  uint64_t low, high;
};
constexpr Constants kFold64 = {0x0154442bd4, 0x01c6e41596};  // x^(512+32), x^(512-32): onto what lies 64 bytes further
constexpr Constants kFold16 = {0x01751997d0, 0x00ccaa009e};  // x^(128+32), x^(128-32): 16 bytes further
constexpr uint64_t kFold8 = 0x0163cd6124;                    // x^64
constexpr Constants kBarrett = {0x01db710641, 0x01f7011641};  // the polynomial and x^64 divided by it

TFS_PCLMUL inline __m128i Load(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

TFS_PCLMUL inline __m128i Pair(const Constants& c) { return _mm_set_epi64x(static_cast<long long>(c.high), static_cast<long long>(c.low)); }

TFS_PCLMUL inline __m128i Fold(__m128i x, __m128i next, __m128i constants) {
  const __m128i low = _mm_clmulepi64_si128(x, constants, 0x00), high = _mm_clmulepi64_si128(x, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// From 128 bits to 32.
TFS_PCLMUL inline uint32_t Reduce(__m128i x) {
  const __m128i low32 = _mm_setr_epi32(-1, 0, -1, 0);
  x = _mm_xor_si128(_mm_srli_si128(x, 8), _mm_clmulepi64_si128(x, Pair(kFold16), 0x10));
  x = _mm_xor_si128(_mm_srli_si128(x, 4), _mm_clmulepi64_si128(_mm_and_si128(x, low32), _mm_cvtsi64_si128(static_cast<long long>(kFold8)), 0x00));
  const __m128i barrett = Pair(kBarrett);
  __m128i t = _mm_clmulepi64_si128(_mm_and_si128(x, low32), barrett, 0x10);
  t = _mm_clmulepi64_si128(_mm_and_si128(t, low32), barrett, 0x00);
  return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(x, t), 1));
}

TFS_PCLMUL uint32_t Run(uint32_t crc, const uint8_t* data, size_t size) {
  const __m128i fold64 = Pair(kFold64), fold16 = Pair(kFold16);
  __m128i a = _mm_xor_si128(Load(data), _mm_cvtsi32_si128(static_cast<int>(crc)));
  __m128i b = Load(data + 16), c = Load(data + 32), d = Load(data + 48);
  for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
    a = Fold(a, Load(data), fold64);
    b = Fold(b, Load(data + 16), fold64);
    c = Fold(c, Load(data + 32), fold64);
    d = Fold(d, Load(data + 48), fold64);
  }
  a = Fold(Fold(Fold(a, b, fold16), c, fold16), d, fold16);
  for (; size >= 16; data += 16, size -= 16) a = Fold(a, Load(data), fold16);
  return Reduce(a);
}

}  // namespace

bool HasFastCrc32() {
  constexpr unsigned kPclmul = 1u << 1, kSse41 = 1u << 19;
  unsigned eax, ebx, ecx = 0, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & (kPclmul | kSse41)) == (kPclmul | kSse41);
}

uint32_t FastCrc32(uint32_t crc, const uint8_t* data, size_t size) { return Run(crc, data, size); }

}  // namespace tflite_smart
#else
namespace tflite_smart {
bool HasFastCrc32() { return false; }
uint32_t FastCrc32(uint32_t crc, const uint8_t*, size_t) { return crc; }
}  // namespace tflite_smart
#endif
