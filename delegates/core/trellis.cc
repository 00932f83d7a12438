#include "core/trellis.h"

#include <algorithm>
#include <utility>

namespace tflite_smart {
namespace {

constexpr float kNever = 3e38f;
constexpr float kMagic = 12582912.0f;  // added and taken away again it rounds to the nearest whole number, halves to even

constexpr uint32_t kLanes = 8;  // columns that are passed on together

// What a survivor of a column is: the state before it, its id and the value of that.
struct Choice {
  uint8_t origin;
  int8_t id, value;
};

// The search of one channel. Every survivor keeps what the columns ahead aim at after its errors so far. So the errors themselves need not be kept, and one
// loop over the columns ahead both hands the aims on to the next survivor and adds its error.
class Search {
 public:
  explicit Search(const TrellisBlock& block) : block_(block) {
    uint32_t found[kTrellisStates] = {};
    for (uint32_t state = 0; state < kTrellisStates; ++state) {
      start_[state] = block.dependent ? static_cast<float>(state & 1) : 0.0f;
      for (uint32_t parity = 0; parity < 2; ++parity) {
        const uint32_t after = block.dependent ? kNextState[state + 8 * parity] : (2 * state + parity) % kTrellisStates;
        before_[after][found[after]++] = static_cast<uint8_t>(parity * kTrellisStates + state);
      }
    }
    for (uint32_t k = 0; k < block.num_columns; ++k) {
      std::copy_n(block.matrix + static_cast<size_t>(k) * block.num_columns + k + 1, block.num_columns - k - 1, passed_[k] + k + 1);
    }
  }

  void Run(const float* weights, const float* asked, uint8_t* state, int8_t* ids, int8_t* values) {
    const uint32_t columns = block_.num_columns;
    for (uint32_t s = 0; s < kTrellisStates; ++s) {
      cost_[s] = s == *state ? 0.0f : kNever;
      for (uint32_t k = 0; k < columns; ++k) aims_[s][k] = weights[k] + asked[k];
    }
    for (uint32_t k = 0; k < columns; ++k) Step(k, weights[k]);
    uint32_t survivor = 0;
    for (uint32_t s = 1; s < kTrellisStates; ++s) {
      if (cost_[s] < cost_[survivor]) survivor = s;
    }
    *state = static_cast<uint8_t>(survivor);
    for (uint32_t k = columns; k-- > 0;) {
      const Choice& choice = choices_[k][survivor];
      ids[k] = choice.id;
      values[k] = choice.value;
      survivor = choice.origin;
    }
  }

 private:
  // The ids that survivors may take next: all even ones, then all odd ones.
  struct Candidates {
    float id[2 * kTrellisStates], value[2 * kTrellisStates], total[2 * kTrellisStates];
  };

  void Propose(uint32_t k, bool kept, Candidates* to) const {
    const float spacing = block_.dependent ? 2.0f : 1.0f, inverse = 1.0f / spacing, importance = block_.importance[k];
    for (uint32_t parity = 0; parity < 2; ++parity) {
      const float odd = static_cast<float>(parity);
      const float lowest = block_.dependent ? -31.0f - odd : -64.0f, highest = block_.dependent ? 31.0f : 63.0f;  // of pairs of ids
      for (uint32_t s = 0; s < kTrellisStates; ++s) {
        const uint32_t i = parity * kTrellisStates + s;
        const float aim = aims_[s][k];
        const float pair = std::min(std::max(((aim - start_[s]) * inverse - odd) * 0.5f, lowest), highest);
        const float id = kept ? 0.0f : 2.0f * (pair + kMagic - kMagic) + odd;
        const float value = id * spacing + start_[s], missed = aim - value;
        to->id[i] = id;
        to->value[i] = value;
        to->total[i] = kept && parity == 1 ? kNever : cost_[s] + missed * missed * importance;
      }
    }
  }

  void Step(uint32_t k, float weight) {
    Candidates c;
    Propose(k, !block_.dependent && weight == 0.0f, &c);
    // Two ways lead to every state. No branches: which one is better is as good as random.
    for (uint32_t s = 0; s < kTrellisStates; ++s) {
      const uint32_t one = before_[s][0], other = before_[s][1];
      const uint32_t way = c.total[other] < c.total[one] ? other : one;
      const bool reached = c.total[way] < kNever;
      cost_[s] = reached ? c.total[way] : kNever;
      const float error = reached ? weight - c.value[way] : 0.0f;
      const uint32_t origin = reached ? way % kTrellisStates : 0;
      choices_[k][s] = {static_cast<uint8_t>(origin), static_cast<int8_t>(c.id[way]), static_cast<int8_t>(c.value[way])};
      PassOn(aims_[origin], passed_[k], error, (k + 1) / kLanes * kLanes, block_.num_columns, next_[s]);
    }
    std::swap(aims_, next_);
  }

  static void PassOn(const float* __restrict from, const float* __restrict passed, float error, uint32_t first, uint32_t end, float* __restrict to) {
    for (; first < end; first += kLanes) {
      for (uint32_t i = first; i < first + kLanes; ++i) to[i] = from[i] + error * passed[i];
    }
  }

  const TrellisBlock& block_;
  float start_[kTrellisStates];
  uint8_t before_[kTrellisStates][2];  // the two candidates that lead to a state
  float cost_[kTrellisStates];
  alignas(64) float passed_[kMaxTrellisColumns][kMaxTrellisColumns] = {};
  alignas(64) float rows_[2][kTrellisStates][kMaxTrellisColumns] = {};
  float (*aims_)[kMaxTrellisColumns] = rows_[0];
  float (*next_)[kMaxTrellisColumns] = rows_[1];
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
