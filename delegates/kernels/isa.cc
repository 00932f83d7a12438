#include "kernels/isa.h"

#include <atomic>
#include <cstring>

#if defined(TFS_X86)
#include <cpuid.h>
#elif defined(__arm__) || defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace tflite_smart {
namespace {

// Slowest first. CMakeLists.txt defines TFS_X86, TFS_NEON, TFS_NEONDOT for the processors it builds for, TFS_AMX where the compiler knows it.
const Isa kIsas[] = {
    {"scalar", &kDecodeScalar, &kFloatScalar, &kInt8Scalar},
#if defined(TFS_X86)
    {"avx2", &kDecodeAvx2, &kFloatAvx2, &kInt8Avx2},
    {"avx512", &kDecodeAvx512, &kFloatAvx512, &kInt8Avx512},
#if defined(TFS_AMX)
    {"amx", &kDecodeAvx512, &kFloatAvx512, &kInt8Amx},
#endif
#endif
#if defined(TFS_NEON)
    {"neon", &kDecodeNeon, &kFloatNeon, &kInt8Neon},
#endif
#if defined(TFS_NEONDOT)
    {"neondot", &kDecodeNeon, &kFloatNeon, &kInt8Neondot},
#endif
};
constexpr int kNumIsas = sizeof(kIsas) / sizeof(kIsas[0]);

#if defined(TFS_X86)
// CPUID itself, not __builtin_cpu_supports: that answers 0 to everything in a library built with zig.
struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Leaf(unsigned number) {
    if (!__get_cpuid_count(number, 0, &eax, &ebx, &ecx, &edx)) *this = Leaf();
  }

 private:
  Leaf() = default;
};

constexpr bool HasBits(unsigned value, unsigned bits) { return (value & bits) == bits; }

// Which registers the operating system saves: bits 1, 2 xmm and ymm; 5 to 7 the mask registers and zmm; 17, 18 the tiles of AMX.
unsigned SavedRegisters(unsigned leaf1_ecx) {
  constexpr unsigned kOsxsave = 1u << 27;
  if (!HasBits(leaf1_ecx, kOsxsave)) return 0;
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// Linux gives a process the large registers of AMX when it asks for them, once or often (arch_prctl, ARCH_REQ_XCOMP_PERM). Inline, as not every C library has the call.
bool MayUseTiles() {
#if defined(__linux__) && !defined(__ANDROID__)
  constexpr long kArchPrctl = 158, kRequestPermission = 0x1023, kTileData = 18;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(kArchPrctl), "D"(kRequestPermission), "S"(kTileData) : "rcx", "r11", "memory");
  return result == 0;
#else
  return false;
#endif
}

// Everything that CMakeLists.txt allows in *_avx2.cc and *_avx512.cc (Ice Lake, Zen 4 and later), and AMX (Sapphire Rapids and later).
struct Cpu {
  bool avx2, avx512, amx;

  Cpu() {
    constexpr unsigned kFma = 1u << 12, kPopcnt = 1u << 23, kBmi = 1u << 3, kAvx2 = 1u << 5, kBmi2 = 1u << 8, kLzcnt = 1u << 5;
    constexpr unsigned kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31, kVbmi = 1u << 1, kVbmi2 = 1u << 6, kGfni = 1u << 8, kVnni = 1u << 11;
    constexpr unsigned kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
    const Leaf leaf1(1), leaf7(7), extended(0x80000001);
    const unsigned saved = SavedRegisters(leaf1.ecx);
    avx2 = HasBits(saved, 0x06) && HasBits(leaf1.ecx, kFma | kPopcnt) && HasBits(leaf7.ebx, kBmi | kAvx2 | kBmi2) && HasBits(extended.ecx, kLzcnt);
    avx512 = avx2 && HasBits(saved, 0xe6) && HasBits(leaf7.ebx, kF | kDq | kBw | kVl) && HasBits(leaf7.ecx, kVbmi | kVbmi2 | kGfni | kVnni);
    amx = avx512 && HasBits(saved, 0x60000) && HasBits(leaf7.edx, kAmxTile | kAmxInt8);
  }
};
const Cpu cpu;  // made when the library is loaded; asked once, as every CPUID takes microseconds under a hypervisor
#endif

bool CpuHas(const char* name) {
#if defined(TFS_X86)
  if (std::strcmp(name, "avx2") == 0) return cpu.avx2;
  if (std::strcmp(name, "avx512") == 0) return cpu.avx512;
  if (std::strcmp(name, "amx") == 0) return cpu.amx && MayUseTiles();
#elif defined(__arm__)
  constexpr unsigned long kHwcapVfpv4 = 1ul << 16, kHwcapNeon = 1ul << 12;
  if (std::strcmp(name, "neon") == 0) {
    const unsigned long capabilities = getauxval(AT_HWCAP);
    return (capabilities & kHwcapNeon) != 0 && (capabilities & kHwcapVfpv4) != 0;
  }
#elif defined(__aarch64__)
  constexpr unsigned long kHwcapAsimdDp = 1ul << 20;
  if (std::strcmp(name, "neondot") == 0) return (getauxval(AT_HWCAP) & kHwcapAsimdDp) != 0;
#endif
  (void)name;  // scalar everywhere; NEON is part of aarch64
  return true;
}

const Isa* Find(const char* name) {
  for (const Isa& isa : kIsas) {
    if (std::strcmp(isa.name, name) == 0 && CpuHas(name)) return &isa;
  }
  return nullptr;
}

const Isa* Fastest() {
  for (int i = kNumIsas - 1; i > 0; --i) {
    if (CpuHas(kIsas[i].name)) return &kIsas[i];
  }
  return &kIsas[0];
}

std::atomic<const Isa*> active{nullptr};

}  // namespace

const Isa& ActiveIsa() {
  const Isa* isa = active.load(std::memory_order_acquire);
  if (isa == nullptr) {  // two threads may both get here: they store the same pointer
    isa = Fastest();
    active.store(isa, std::memory_order_release);
  }
  return *isa;
}

bool ForceIsa(const char* name) {
  const Isa* isa = name == nullptr || *name == '\0' ? Fastest() : Find(name);
  if (isa == nullptr) return false;
  active.store(isa, std::memory_order_release);
  return true;
}

const Isa* AvailableIsa(int i) {
  for (const Isa& isa : kIsas) {
    if (CpuHas(isa.name) && i-- == 0) return &isa;
  }
  return nullptr;
}

}  // namespace tflite_smart
