// Target: any bytes as the custom options of an op.
#include "doors/flexbuffer_reader.h"
#include "fuzz/input.h"

namespace {

using tflite_smart::FlexMap;

constexpr const char* kKeys[] = {"stride_h", "dilation_w", "padding", "activation", "axis", "keep_num_dims", "filter_in", "nobody's", ""};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const tflite_smart::fuzz::Exact<uint8_t> bytes(std::vector<uint8_t>(data, data + size));
  FlexMap map;
  if (!map.Parse(bytes.data(), bytes.size())) return 0;
  for (const char* key : kKeys) {
    int64_t number = -1;
    char text[12];
    const FlexMap::Result as_number = map.GetInt(key, &number), as_text = map.GetString(key, text, sizeof(text));
    FUZZ_CHECK((as_number == FlexMap::kMissing) == (as_text == FlexMap::kMissing));
    FUZZ_CHECK(as_number != FlexMap::kFound || as_text != FlexMap::kFound);
    FUZZ_CHECK(as_text != FlexMap::kFound || std::strlen(text) < sizeof(text));
  }
  return 0;
}
