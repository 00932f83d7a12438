// For the decode_<isa>.cc files: from the two run-time parameters of a coding to the loop that was compiled for them.
#ifndef TFLITE_SMART_KERNELS_SELECT_LOOP_H_
#define TFLITE_SMART_KERNELS_SELECT_LOOP_H_

#include "core/coding.h"

#define TFS_INLINE inline __attribute__((always_inline))

namespace tflite_smart {
namespace {  // one copy per file, compiled with that file's flags: see isa.h

// Loop<raw_bits, has_escape>::Run for the coding's values, raw_bits < num_raw_bits. Open() has checked the range.
template <template <int, bool> class Loop, int num_raw_bits, typename Function>
TFS_INLINE Function SelectLoop(const Coding& coding) {
  static_assert(num_raw_bits == 5 || num_raw_bits == 8, "rans has 0..4 raw bits, bitpack 0..7");
  constexpr int last = num_raw_bits - 1;
  static constexpr Function loops[2][8] = {
      {Loop<0, false>::Run, Loop<1, false>::Run, Loop<2, false>::Run, Loop<3, false>::Run, Loop<4, false>::Run,
       Loop<last < 5 ? last : 5, false>::Run, Loop<last < 6 ? last : 6, false>::Run, Loop<last, false>::Run},
      {Loop<0, true>::Run, Loop<1, true>::Run, Loop<2, true>::Run, Loop<3, true>::Run, Loop<4, true>::Run,
       Loop<last < 5 ? last : 5, true>::Run, Loop<last < 6 ? last : 6, true>::Run, Loop<last, true>::Run}};
  return loops[coding.has_escape][coding.raw_bits];
}

}  // namespace
}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_SELECT_LOOP_H_
