#include "core/alias_tables.h"

#include <cstring>

namespace tflite_smart {

AliasTables BuildAliasTables(const uint8_t frequency[kSymbols]) {
  constexpr int kBucketSlots = kSlots / kSymbols;
  AliasTables tables;
  std::memcpy(tables.frequency, frequency, kSymbols);
  int left[kSymbols];
  bool filled[kSymbols] = {};
  for (uint32_t i = 0; i < kSymbols; ++i) left[i] = frequency[i];

  for (uint32_t round = 0; round < kSymbols; ++round) {
    int smallest = -1, largest = -1;
    for (int i = 0; i < static_cast<int>(kSymbols); ++i) {
      if (!filled[i] && (smallest < 0 || left[i] < left[smallest])) smallest = i;
    }
    filled[smallest] = true;
    tables.divider[smallest] = static_cast<uint8_t>(left[smallest]);
    tables.alias[smallest] = static_cast<uint8_t>(smallest);
    if (left[smallest] >= kBucketSlots) continue;
    for (int i = 0; i < static_cast<int>(kSymbols); ++i) {
      if (!filled[i] && (largest < 0 || left[i] > left[largest])) largest = i;
    }
    left[largest] -= kBucketSlots - left[smallest];
    tables.alias[smallest] = static_cast<uint8_t>(largest);
  }
  // Ranks ascend with the slots: see FORMAT.md on why that saves up to 3 % of the stream.
  int seen[kSymbols] = {};
  for (uint32_t b = 0; b < kSymbols; ++b) {
    const int own = tables.divider[b], alias = tables.alias[b];
    tables.own_rank[b] = static_cast<uint8_t>(seen[b]);
    seen[b] += own;
    tables.alias_rank[b] = static_cast<uint8_t>(seen[alias] - own);
    seen[alias] += kBucketSlots - own;
  }
  return tables;
}

}  // namespace tflite_smart
