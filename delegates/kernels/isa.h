// Which instruction set runs. Every kernel family has one table of function pointers per instruction set, defined in
// <family>_<isa>.cc; an Isa is one row of these tables, assembled in isa.cc.
//
// READ FIRST, before adding a file *_avx2.cc, *_avx512.cc or *_neon.cc
// * CMakeLists.txt gives it the flags of its suffix. There is no global -march.
// * It must not instantiate inline functions or templates with external linkage that other files use too (std::min, std::vector ...):
//   the linker keeps one copy of them, perhaps the AVX-512 one, and the library then crashes on older CPUs. Keep helpers in
//   an anonymous namespace and include no heavy header.
#ifndef TFLITE_SMART_KERNELS_ISA_H_
#define TFLITE_SMART_KERNELS_ISA_H_

#include "kernels/decode.h"
#include "kernels/float_kernels.h"
#include "kernels/int8_kernels.h"

namespace tflite_smart {

struct Isa {
  const char* name;             // "scalar", "avx2", "avx512", "amx", "neon" or "neondot"
  const DecodeKernels* decode;
  const FloatKernels* f32;
  const Int8Kernels* i8;
};

// The fastest one of this machine, or the forced one.
const Isa& ActiveIsa();

// Makes `name` the active one for the whole process; null or "" returns to the fastest. False if this build or CPU lacks it.
// For tests and benchmarks: a tile whose decoding has begun under another one is still decoded right.
bool ForceIsa(const char* name);

// The i-th instruction set that this build and this CPU have, slowest first; null at the end.
const Isa* AvailableIsa(int i);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_ISA_H_
