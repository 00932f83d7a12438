// The constants of converter/FORMAT.md, in its order. tests/delegates/test_codecs.py compares them with converter/format.py.
#ifndef TFLITE_SMART_CORE_FORMAT_H_
#define TFLITE_SMART_CORE_FORMAT_H_

#include <cstddef>
#include <cstdint>

namespace tflite_smart {

static_assert(sizeof(void*) >= 4, "");
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The packed weight is little-endian and is read in place: big-endian machines are not supported."
#endif

constexpr uint8_t kVersion = 0;
constexpr uint32_t kLanes = 32;         // lanes of a row, channels of a panel
constexpr uint32_t kHeaderBytes = 36;
constexpr uint32_t kReadableBytes = 40;  // that at least follow the payload, whatever they are
constexpr uint32_t kCodebookSize = 256;
constexpr uint32_t kSymbols = 16;       // of rANS; also the number of alias buckets
constexpr uint32_t kSlots = 256;        // of rANS: the sum of the frequencies
constexpr uint32_t kStateStart = 256;   // where the encoder starts and so where every lane must end
constexpr uint32_t kStateBytes = 2 * kLanes;
constexpr uint32_t kMaxElements = 0x7fffffff;  // of a tensor: what a .tflite counts its bytes with
constexpr uint8_t kMaxBitpackBits = 7;
constexpr uint8_t kMaxRansRawBits = 4;
constexpr uint32_t kMaxScaleBits = 8, kMaxMantissaBits = 7, kMaxExponent = 254;  // of a code of a scale, and of what it stands for
constexpr uint32_t kMaxBiasBits = 16;          // of a code of a bias
constexpr uint32_t kLeastBiasStep = 0x0080, kMostBiasStep = 0x77ff;  // upper halves of float32: normal, and so small that no bias is infinite
constexpr uint32_t kTrellisStates = 8;  // of dependent
// The state after an id: by state + 8 * parity. One 16-byte shuffle.
alignas(16) constexpr uint8_t kNextState[2 * kTrellisStates] = {0, 5, 1, 6, 2, 4, 3, 7, 2, 7, 3, 4, 0, 6, 1, 5};
constexpr uint32_t kGroupingBytes = 12;      // of smartdeal
constexpr uint32_t kMaxGroup = 8;
constexpr int32_t kMaxCoefficient = 15;          // |id| of the largest power of two
constexpr uint32_t kMaxGroupedPiece = 2048;  // k that have to be taken at once for whole groups, at most

enum class Codec : uint8_t { kRaw = 0, kBitpack = 1, kRans = 2, kSparse = 3 };
enum class ValueKind : uint8_t { kInteger = 0, kUniform = 1, kMidrise = 2, kCodebook = 3, kDependent = 4, kSmartdeal = 5 };

// Offsets in the header.
namespace field {
constexpr size_t kMagic = 0, kVersion = 4, kCodec = 5, kValueKind = 6, kRawBits = 7, kBase = 8, kNumSymbols = 9,
                 kHasEscape = 10, kScaleExponent = 11, kNumChannels = 12, kChannelElements = 16, kInnerElements = 20,
                 kPanelsPerTile = 24, kBiasBits = 26, kScaleCoding = 27, kPayloadBytes = 28, kCrc = 32;
}  // namespace field

}  // namespace tflite_smart

#endif  // TFLITE_SMART_CORE_FORMAT_H_
