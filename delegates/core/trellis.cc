#include "core/trellis.h"

#include <cmath>
#include <cstring>

namespace tflite_smart {
namespace {

constexpr float kNever = 3e38f;

// What a survivor of a column is: the state before it, its id and the value of that.
struct Choice {
  uint8_t origin;
  int8_t id, value;
};

// The search of one channel. Survivors lie side by side, so that the sums over earlier errors are taken for all of them at once.
class Search {
 public:
  explicit Search(const TrellisBlock& block) : block_(block) {
    for (uint32_t state = 0; state < kTrellisStates; ++state) {
      start_[state] = block.dependent ? static_cast<float>(state & 1) : 0.0f;
      for (uint32_t parity = 0; parity < 2; ++parity) {
        after_[state][parity] = block.dependent ? kNextState[state + 8 * parity] : static_cast<uint8_t>((2 * state + parity) % kTrellisStates);
      }
    }
  }

  void Run(const float* weights, const float* asked, uint8_t* state, int8_t* ids, int8_t* values) {
    for (uint32_t s = 0; s < kTrellisStates; ++s) cost_[s] = s == *state ? 0.0f : kNever;
    for (uint32_t k = 0; k < block_.num_columns; ++k) Step(k, weights[k], asked[k]);
    uint32_t survivor = 0;
    for (uint32_t s = 1; s < kTrellisStates; ++s) {
      if (cost_[s] < cost_[survivor]) survivor = s;
    }
    *state = static_cast<uint8_t>(survivor);
    for (uint32_t k = block_.num_columns; k-- > 0;) {
      const Choice& choice = choices_[k][survivor];
      ids[k] = choice.id;
      values[k] = choice.value;
      survivor = choice.origin;
    }
  }

 private:
  void Step(uint32_t k, float weight, float asked) {
    const float spacing = block_.dependent ? 2.0f : 1.0f;
    float aim[kTrellisStates];
    for (float& a : aim) a = weight + asked;
    for (uint32_t j = 0; j < k; ++j) {
      const float passed = block_.matrix[j * block_.num_columns + k];
      for (uint32_t s = 0; s < kTrellisStates; ++s) aim[s] += errors_[j][s] * passed;
    }
    float best[kTrellisStates], error[kTrellisStates] = {};
    for (float& b : best) b = kNever;
    std::memset(choices_[k], 0, sizeof(choices_[k]));
    const bool kept = !block_.dependent && weight == 0.0f;
    for (uint32_t s = 0; s < kTrellisStates; ++s) {
      const float position = (aim[s] - start_[s]) / spacing;
      for (uint32_t parity = 0; parity < (kept ? 1 : 2); ++parity) {
        const float odd = static_cast<float>(parity);
        float id = 2.0f * std::nearbyint((position - odd) * 0.5f) + odd;
        const float lowest = block_.dependent ? -62.0f - odd : -128.0f + odd, highest = block_.dependent ? 62.0f + odd : 126.0f + odd;
        id = kept ? 0.0f : id < lowest ? lowest : id > highest ? highest : id;
        const float value = id * spacing + start_[s], missed = aim[s] - value;
        const float total = cost_[s] + missed * missed * block_.importance[k];
        const uint32_t to = after_[s][parity];
        if (!(total < best[to])) continue;
        best[to] = total;
        error[to] = weight - value;
        choices_[k][to] = {static_cast<uint8_t>(s), static_cast<int8_t>(id), static_cast<int8_t>(value)};
      }
    }
    std::memcpy(cost_, best, sizeof(cost_));
    for (uint32_t j = 0; j < k; ++j) {
      float moved[kTrellisStates];
      for (uint32_t s = 0; s < kTrellisStates; ++s) moved[s] = errors_[j][choices_[k][s].origin];
      std::memcpy(errors_[j], moved, sizeof(moved));
    }
    std::memcpy(errors_[k], error, sizeof(error));
  }

  const TrellisBlock& block_;
  float start_[kTrellisStates];
  uint8_t after_[kTrellisStates][2];
  float cost_[kTrellisStates];
  float errors_[kMaxTrellisColumns][kTrellisStates];
  Choice choices_[kMaxTrellisColumns][kTrellisStates];
};

}  // namespace

void RoundBlock(const TrellisBlock& block, uint8_t* states, int8_t* ids, int8_t* values) {
  Search search(block);
  for (uint32_t n = 0; n < block.num_channels; ++n) {
    const size_t first = static_cast<size_t>(n) * block.num_columns;
    search.Run(block.weights + first, block.asked + first, states + n, ids + first, values + first);
  }
}

}  // namespace tflite_smart
