// Target: any bytes as a packed weight, through the C API. Most mutated inputs get right check sums, so that every rule is reached; what passes all rules is decoded
// and expanded on every instruction set.
#include "fuzz/seal.h"
#include "tflite_smart.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace tflite_smart::fuzz;

constexpr uint64_t kMaxIds = 1 << 16;  // a valid weight may stand for 2^31 constant weights: too slow to decode a thousand times a second

bool DecodeAndExpand(const Exact<uint8_t>& blob, const tfs_info& info, Exact<uint8_t>* output) {
  tfs_error error;
  return tfs_expand(blob.data(), blob.size(), output->data(), output->size(), &error) == TFS_OK && info.num_tiles > 0;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 != 0) Seal(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Exact<uint8_t> blob(std::vector<uint8_t>(data, data + size));
  tfs_info info;
  tfs_error error = {};
  const int32_t code = tfs_open(blob.data(), blob.size(), &info, &error);
  if (code != TFS_OK) {
    FUZZ_CHECK(std::strstr(error.message, " must be ") != nullptr && std::strstr(error.message, "Received: ") != nullptr);
    return 0;
  }
  const uint64_t ids = static_cast<uint64_t>(info.num_channels) * info.channel_elements;
  if (ids > kMaxIds) return 0;
  std::vector<Exact<uint8_t>> outputs;
  std::vector<bool> good;
  OnEveryIsa([&](int) {
    outputs.emplace_back(static_cast<size_t>(ids) * (info.value_kind == 0 ? 1 : sizeof(float)));
    good.push_back(DecodeAndExpand(blob, info, &outputs.back()));
  });
  for (size_t i = 1; i < good.size(); ++i) FUZZ_CHECK(good[i] == good[0] && (!good[0] || outputs[i] == outputs[0]));
  return 0;
}
