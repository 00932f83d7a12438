// The row decoders: one table of functions per instruction set, all equal bit for bit.
#ifndef TFLITE_SMART_KERNELS_DECODE_H_
#define TFLITE_SMART_KERNELS_DECODE_H_

#include <cstddef>
#include <cstdint>

#include "core/coding.h"

namespace tflite_smart {

// Decodes `rows` rows of 32 ids and moves `state` on. Never fails and never leaves the bounds described in core/coding.h,
// whatever the bytes say.
using DecodeRows = void (*)(const Coding& coding, TileState* state, size_t rows, int8_t* ids);

// The same for two tiles of one weight in one loop: two independent chains of instructions hide each other's latency.
using DecodeRowsPair = void (*)(const Coding& coding, TileState* const* states, size_t rows, int8_t* const* ids);

// Ids of `dependent` to their values, in place: `rows` rows of 32 lanes, a channel each, whose states are moved on.
using DependentRows = void (*)(uint8_t* states, size_t rows, int8_t* ids);

// Tiles of one weight in one loop, at most: 4 where there are registers enough.
constexpr uint32_t kMaxSideBySide = 4;

struct DecodeKernels {
  DecodeRows bitpack;
  DecodeRows rans;
  DecodeRows sparse;
  DecodeRowsPair rans_pair;
  DecodeRowsPair rans_four;  // the same for four tiles; null where it would not be faster
  DependentRows dependent;
};

extern const DecodeKernels kDecodeScalar;
extern const DecodeKernels kDecodeAvx2;
extern const DecodeKernels kDecodeAvx512;
extern const DecodeKernels kDecodeNeon;

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_DECODE_H_
