// The GEMM of int8_kernels-inl.h, behind which int8_avx512.cc includes this, on AMX: a tile register holds 16 rows of 64 bytes, and one instruction multiplies 16 rows of A by
// 16 dwords of k and 16 channels of B. B lies as VNNI wants it. Needs the permission that isa.cc asks the kernel for. No include guard on purpose.
namespace tflite_smart {
namespace {

constexpr uint32_t kTileRows = 16, kTileBytes = 64;
static_assert(kTileRows <= kMaxInt8Rows && kPanel == 2 * kTileBytes / sizeof(int32_t), "");

// Fewer rows are as fast without, as is less k than one tile holds.
constexpr uint32_t kFewestTileRows = 5;

// As LDTILECFG reads it.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, zeros[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(int tile, uint32_t num_rows, uint32_t num_bytes) {
    rows[tile] = static_cast<uint8_t>(num_rows);
    bytes[tile] = static_cast<uint16_t>(num_bytes);
  }
};

// The intrinsics do not tell the compiler what memory they read.
inline void MemoryIsRead() { __asm__ volatile("" ::: "memory"); }

// Rows of A where they lie, if they are equally far apart, else copies of 64 bytes of each.
class TileRows {
 public:
  explicit TileRows(const Int8GemmTile& t) : a_(t.a), rows_(t.rows), step_(t.a[1] - t.a[0]) {
    for (uint32_t r = 2; r < rows_; ++r) even_ = even_ && a_[r] - a_[r - 1] == step_;
  }

  const uint8_t* At(size_t at) {
    if (even_) return a_[0] + at;
    for (uint32_t r = 0; r < rows_; ++r) std::memcpy(room_[r], a_[r] + at, kTileBytes);
    MemoryIsRead();
    return room_[0];
  }

  ptrdiff_t step() const { return even_ ? step_ : static_cast<ptrdiff_t>(kTileBytes); }

 private:
  const uint8_t* const* const a_;
  const uint32_t rows_;
  const ptrdiff_t step_;
  bool even_ = true;
  alignas(64) uint8_t room_[kTileRows][kTileBytes];
};

// Without tiles: up to 12 rows at once, more in two parts.
void GemmInParts(const Int8GemmTile& t) {
  constexpr uint32_t kHalf = kTileRows / 2;
  if (t.rows <= static_cast<uint32_t>(Vec::kGemmRows)) return Gemm(t);
  Int8GemmTile part = t;
  part.rows = kHalf;
  Gemm(part);
  part.rows = t.rows - kHalf;
  part.a += kHalf;
  if (t.partial != nullptr) part.partial += kHalf * kPanel;
  if (t.float_epilogue != nullptr) {
    part.y += kHalf * t.c_stride;
    part.quantization += kHalf;
  } else if (t.epilogue != nullptr) {
    part.c += kHalf * t.c_stride;
  }
  Gemm(part);
}

__attribute__((target("amx-tile,amx-int8"))) void GemmAmx(const Int8GemmTile& t) {
  if (t.rows < kFewestTileRows || t.num_runs * t.run_groups < kTileRows) return GemmInParts(t);
  constexpr uint32_t kRowBytes = kPanel * sizeof(int32_t);
  const uint32_t last = t.run_groups % kTileRows;
  const bool wide = t.end_column > kPanel / 2;
  // 0, 1: sums; 2: A; 3, 4: B; 5 to 7: A and B for the last dwords of a run, if they are fewer than 16. Numbers, as the intrinsics make names of them.
  TileShapes shapes;
  for (int tile = 0; tile < 3; ++tile) shapes.Set(tile, t.rows, kTileBytes);
  for (int tile = 3; tile < 5; ++tile) shapes.Set(tile, kTileRows, kTileBytes);
  if (last != 0) {
    shapes.Set(5, t.rows, last * sizeof(int32_t));
    for (int tile = 6; tile < 8; ++tile) shapes.Set(tile, last, kTileBytes);
  }
  MemoryIsRead();
  _tile_loadconfig(&shapes);
  if (t.accumulate) {
    _tile_loadd(0, t.partial, kRowBytes);
    _tile_loadd(1, t.partial + kPanel / 2, kRowBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  TileRows rows(t);
  const uint8_t* b = t.b;
  for (uint32_t i = 0; i < t.num_runs; ++i) {
    size_t at = t.runs[i];
    for (uint32_t groups = t.run_groups; groups >= kTileRows; groups -= kTileRows, at += kTileBytes, b += kTileRows * kInt8GroupBytes) {
      _tile_loadd(2, rows.At(at), rows.step());
      _tile_loadd(3, b, kInt8GroupBytes);
      _tile_dpbusd(0, 2, 3);
      if (!wide) continue;
      _tile_loadd(4, b + kTileBytes, kInt8GroupBytes);
      _tile_dpbusd(1, 2, 4);
    }
    if (last == 0) continue;
    _tile_loadd(5, rows.At(at), rows.step());
    _tile_loadd(6, b, kInt8GroupBytes);
    _tile_dpbusd(0, 5, 6);
    _tile_loadd(7, b + kTileBytes, kInt8GroupBytes);
    _tile_dpbusd(1, 5, 7);
    b += last * kInt8GroupBytes;
  }
  alignas(64) int32_t sums[kTileRows][kPanel];
  _tile_stored(0, sums[0], kRowBytes);
  _tile_stored(1, sums[0] + kPanel / 2, kRowBytes);
  _tile_release();
  for (uint32_t r = 0; r < t.rows && t.start != nullptr; ++r) {
    for (uint32_t first = 0; first < kPanel; first += kLanes) Add(Vec::Load(sums[r] + first), Vec::Load(t.start + first)).Store(sums[r] + first);
  }
  if (t.float_epilogue != nullptr) return FinishFloatRows<kBlockVecs>(sums[0], t, 0);
  if (t.epilogue != nullptr) return FinishRows<kBlockVecs>(sums[0], t.rows, *t.epilogue, 0, {t.c, t.c_stride, t.first_column, t.end_column});
  std::memcpy(t.partial, sums, t.rows * static_cast<size_t>(kRowBytes));
}

}  // namespace
}  // namespace tflite_smart
