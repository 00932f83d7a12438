// Runs a target without libFuzzer, for compilers that lack it: replays files, then changes them at random. No feedback from coverage, so it finds what lies near the seeds.
//   fuzz_TARGET [-max_total_time=SECONDS] [-runs=N] [-seed=N] [-artifact_prefix=PREFIX] FOLDER_OR_FILE...
// The flags are libFuzzer's; others are ignored. An input that breaks a promise is kept as PREFIXcrash.
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>

#include "fuzz/input.h"

extern "C" __attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed);
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<uint8_t>;

std::mt19937 generator(1);
Bytes current;
std::string prefix;

uint32_t Below(size_t limit) { return static_cast<uint32_t>(generator() % std::max<size_t>(limit, 1)); }

void KeepCurrent() {
  std::FILE* file = std::fopen((prefix + "crash").c_str(), "wb");
  if (file == nullptr) return;
  std::fwrite(current.data(), 1, current.size(), file);
  std::fclose(file);
}

void OnAbort(int) {
  KeepCurrent();
  _exit(77);
}

void Read(const std::string& path, std::vector<Bytes>* inputs) {
  if (DIR* folder = opendir(path.c_str())) {
    while (const dirent* entry = readdir(folder)) {
      if (entry->d_name[0] != '.') Read(path + "/" + entry->d_name, inputs);
    }
    closedir(folder);
    return;
  }
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return;
  Bytes bytes(1 << 20);
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file));
  std::fclose(file);
  inputs->push_back(bytes);
}

Bytes Mutated(const std::vector<Bytes>& inputs) {
  Bytes bytes = inputs[Below(inputs.size())];
  const size_t size = bytes.size(), room = size + 64;
  bytes.resize(room);
  const size_t now = LLVMFuzzerCustomMutator != nullptr ? LLVMFuzzerCustomMutator(bytes.data(), size, room, Below(1 << 30))
                                                        : LLVMFuzzerMutate(bytes.data(), size, room);
  bytes.resize(now);
  return bytes;
}

}  // namespace

// One to eight changes: a bit, a byte, a number at an edge, bytes inserted, cut or copied.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size) {
  constexpr uint32_t kEdges[] = {0, 1, 2, 31, 32, 33, 127, 128, 255, 256, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff};
  for (uint32_t change = Below(8) + 1; change > 0; --change) {
    const uint32_t at = Below(size), bytes = Below(16) + 1;
    switch (Below(6)) {
      case 0: if (size > 0) data[at] = static_cast<uint8_t>(data[at] ^ 1u << Below(8)); break;
      case 1: if (size > 0) data[at] = static_cast<uint8_t>(generator()); break;
      case 2: if (size - at >= 4) std::memcpy(data + at, &kEdges[Below(std::size(kEdges))], 4); break;
      case 3:
        if (size + bytes > max_size) break;
        std::memmove(data + at + bytes, data + at, size - at);
        for (uint32_t i = 0; i < bytes; ++i) data[at + i] = static_cast<uint8_t>(generator());
        size += bytes;
        break;
      case 4:
        if (at + bytes > size) break;
        std::memmove(data + at, data + at + bytes, size - at - bytes);
        size -= bytes;
        break;
      case 5: if (at + bytes <= size) std::memmove(data + at, data + Below(size - bytes), bytes); break;
    }
  }
  return size;
}

int main(int argc, char** argv) {
  std::vector<Bytes> inputs;
  double seconds = 0;
  uint64_t runs = 0;
  for (int i = 1; i < argc; ++i) {
    std::sscanf(argv[i], "-max_total_time=%lf", &seconds);
    std::sscanf(argv[i], "-runs=%lu", &runs);
    unsigned seed;
    if (std::sscanf(argv[i], "-seed=%u", &seed) == 1) generator.seed(seed);
    if (std::strncmp(argv[i], "-artifact_prefix=", 17) == 0) prefix = argv[i] + 17;
    if (argv[i][0] != '-') Read(argv[i], &inputs);
  }
  if (inputs.empty()) inputs.push_back(Bytes(64));
  signal(SIGABRT, OnAbort);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(KeepCurrent);

  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  uint64_t done = 0;
  const auto run = [&](const Bytes& bytes) {
    current = bytes;
    LLVMFuzzerTestOneInput(current.data(), current.size());
    ++done;
  };
  for (const Bytes& input : inputs) run(input);
  while (done < runs || elapsed() < seconds) run(Mutated(inputs));
  std::printf("Done %lu runs in %.0f second(s)\n", static_cast<unsigned long>(done), elapsed());
  return 0;
}
