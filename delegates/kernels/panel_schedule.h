// Cuts a layer in tasks and decodes each task's panels, piece by piece, into the scratch.
//
// READ FIRST: how a layer runs
// * A task is some tiles x some output positions. Cuts between positions cost: a tile is decoded once per cut. But they let a thread keep
//   to its part of the image from layer to layer, and reading what another core has written costs more. So positions are cut first, as
//   far as enough of them remain, and tiles are dealt out where there are too few positions, or few and as many tiles for each thread.
// * Inside a task some panels, a batch, are decoded together and kept as floats in the scratch, so that packing the input is paid once per
//   batch and not once per panel.
// * Where two whole tiles fit the scratch, or the only one, a batch is as many whole tiles as fit, several decoded side by side.
// * Where they don't, a batch is one panel of each of several tiles ("lockstep", one reader each; panels of one tile can only be decoded
//   one after the other), and k is cut in pieces: decode piece 0 of all panels of the batch, run it over all the task's positions,
//   the partial sums waiting in the output tensor, then piece 1 ...
#ifndef TFLITE_SMART_KERNELS_PANEL_SCHEDULE_H_
#define TFLITE_SMART_KERNELS_PANEL_SCHEDULE_H_

#include "core/runtime.h"
#include "kernels/panel_reader.h"

namespace tflite_smart {

// One panel's k in the whole scratch.
constexpr uint32_t kMaxPiece = kBatchFloats / kLanes;
static_assert(kMaxGroupedPiece <= kMaxPiece, "whole groups must fit the scratch");

// `total` neighbours cut in `parts`, as equal as can be if all cuts lie at multiples of `step`.
struct Cuts {
  int64_t total, step, parts;

  // At most `parts`, none of them empty.
  static Cuts Make(int64_t total, int64_t step, int64_t parts);
  int64_t Begin(int64_t part) const;  // Begin(parts) is the end of all
};

struct Schedule {
  uint32_t piece;           // k decoded at once; a multiple of weight.piece_step unless it is all of k
  uint32_t batch_tiles;
  uint32_t tiles_at_once;   // of these, decoded and multiplied together; not in lockstep
  bool lockstep;
  Cuts tiles;               // batch_tiles at most in each part
  Cuts positions;
  size_t num_tasks;         // tiles.parts x positions.parts: all tiles of the first part, all of the second ...

  uint32_t BeginTile(size_t task) const { return static_cast<uint32_t>(tiles.Begin(static_cast<int64_t>(task) % tiles.parts)); }
  uint32_t EndTile(size_t task) const { return static_cast<uint32_t>(tiles.Begin(static_cast<int64_t>(task) % tiles.parts + 1)); }
  int64_t BeginPosition(size_t task) const { return positions.Begin(static_cast<int64_t>(task) / tiles.parts); }
  int64_t EndPosition(size_t task) const { return positions.Begin(static_cast<int64_t>(task) / tiles.parts + 1); }
};

// max_piece: a multiple of 32, at most kMaxPiece. position_step: rows of the kernel, so that cuts change no sum.
Schedule MakeSchedule(const PackedWeight& weight, int64_t positions, int num_threads, uint32_t max_piece, uint32_t position_step);

// What lies decoded in scratch->panels: panel first_panel + i * panel_step at i * slot_k * 32 floats, k from `first_k`.
struct Batch {
  uint32_t first_panel;
  uint32_t panel_step;
  uint32_t num_panels;
  uint32_t slot_k;
  uint32_t first_k;
  uint32_t num_k;
  bool last;  // no k follows: time for the epilogue
  int64_t begin_position;
  int64_t end_position;
};

// Runs all batches of task `task` through `multiply`.
using Multiply = void (*)(const void* layer, const Batch& batch, Scratch* scratch);
Status RunTask(const PackedWeight& weight, const Schedule& schedule, size_t task, Scratch* scratch, Multiply multiply,
               const void* layer);

// All tasks of a layer on the threads of `runtime`.
Status RunSchedule(Runtime* runtime, const PackedWeight& weight, const Schedule& schedule, Multiply multiply, const void* layer);

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_PANEL_SCHEDULE_H_
