// Reads a packed weight panel after panel as floats (or ids) in the order of the GEMM: values[k][32].
#ifndef TFLITE_SMART_KERNELS_PANEL_READER_H_
#define TFLITE_SMART_KERNELS_PANEL_READER_H_

#include "core/tile_decoder.h"
#include "kernels/decode.h"
#include "kernels/float_kernels.h"

namespace tflite_smart {

// What is added to an id to get its value, where weight.values_are_ids().
float IdOffset(const PackedWeight& weight);

class PanelReader {
 public:
  // Stands before the first k of `panel`. Panels of the same tile that lie before it have to be decoded and are dropped; `ids` is room
  // for kMaxChunk * 32 of them, here and below.
  Status Start(const PackedWeight& weight, uint32_t panel, int8_t* ids);

  // Moves on to `panel`, which must not lie before where the reader stands, nor in another tile.
  Status SkipTo(uint32_t panel, int8_t* ids);

  // The next `count` k of the panel, at most what it has left, a multiple of weight.piece_step unless it is that. After its last k
  // the reader stands before the next panel. Lanes past a narrow panel's width hold anything.
  // values: room for count * 32. Only value(id): scales belong to the epilogue.
  Status Read(uint32_t count, int8_t* ids, float* values);

  // The ids themselves, of `dependent` the values; count is at most kMaxChunk, and a multiple of 32 suffices. Lanes past a narrow
  // panel's width hold 0.
  Status ReadIds(uint32_t count, int8_t* ids);

  // All of a panel that is 32 wide times a row, instead of reading it: for weights that CanMultiplyPlanes().
  static bool CanMultiplyPlanes(const PackedWeight& weight);
  Status MultiplyPlanes(const uint8_t* a, int32_t* sums, int32_t* id_sums);

  // ReadIds() and Read() of up to kMaxSideBySide readers that stand at the same k of different tiles of one weight: the decoder is faster
  // with several. Reader i's values go to values + i * step; its ids to ids[i], or they are left where they are if the weight holds them
  // as they are and `at` is not null: at[i] says where.
  static Status ReadIdsSideBySide(PanelReader* const* readers, uint32_t num_readers, uint32_t count, int8_t* const* ids, const int8_t** at = nullptr);
  static Status ReadSideBySide(PanelReader* const* readers, uint32_t num_readers, uint32_t count, int8_t* const* ids, float* values, size_t step);

 private:
  Status BeginPanel();
  Status EndPiece(uint32_t count);
  bool is_plain() const { return weight_->plain.values != nullptr; }
  void CopyPlain(uint32_t count, float* values) const;
  void ToValues(uint32_t count, int8_t* ids);
  void ToFloats(const int8_t* ids, uint32_t count, float* values) const;
  void MixGroups(uint32_t panel, uint32_t first_k, uint32_t count, float* values) const;

  TileDecoder decoder_;
  const PackedWeight* weight_ = nullptr;
  uint32_t panel_ = 0;
  uint32_t left_ = 0;  // k that the panel has left
  alignas(32) uint8_t states_[kLanes] = {};  // of `dependent`
  bool in_tile_ = false;
};

}  // namespace tflite_smart

#endif  // TFLITE_SMART_KERNELS_PANEL_READER_H_
