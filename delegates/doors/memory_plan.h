// Where blocks of memory lie that are not all alive at once.
#ifndef TFLITE_SMART_DOORS_MEMORY_PLAN_H_
#define TFLITE_SMART_DOORS_MEMORY_PLAN_H_

#include <cstddef>
#include <vector>

namespace tflite_smart {

constexpr size_t kBlockAlignment = 64;

struct Block {
  size_t bytes;
  int first, last;  // steps in which it is alive, both included
  size_t offset;    // out; a multiple of kBlockAlignment
};

// Gives every block its offset: the largest first, each at the lowest place that is free while it lives (greedy by size, arXiv:2001.03288,
// section 4). Returns the bytes of all.
size_t PlanMemory(std::vector<Block>* blocks);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_DOORS_MEMORY_PLAN_H_
