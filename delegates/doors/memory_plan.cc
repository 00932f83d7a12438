#include "doors/memory_plan.h"

namespace tflite_smart {
namespace {

size_t Aligned(size_t bytes) { return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment; }

// Before the first element for which `is_behind`. Insertion: a hundred blocks are not worth the code of std::sort.
template <typename IsBehind>
void Insert(Block* block, const IsBehind& is_behind, std::vector<Block*>* sorted) {
  auto at = sorted->begin();
  while (at != sorted->end() && !is_behind(**at)) ++at;
  sorted->insert(at, block);
}

}  // namespace

size_t PlanMemory(std::vector<Block>* blocks) {
  std::vector<Block*> by_size, placed;  // the latter by offset
  for (Block& block : *blocks) Insert(&block, [&](const Block& other) { return other.bytes < block.bytes; }, &by_size);
  size_t total = 0;
  for (Block* block : by_size) {
    block->offset = 0;
    for (const Block* other : placed) {
      if (other->last < block->first || block->last < other->first) continue;
      if (block->offset + block->bytes <= other->offset) break;
      const size_t end = Aligned(other->offset + other->bytes);
      if (block->offset < end) block->offset = end;
    }
    Insert(block, [&](const Block& other) { return other.offset > block->offset; }, &placed);
    if (total < block->offset + block->bytes) total = block->offset + block->bytes;
  }
  return total;
}

}  // namespace tflite_smart
