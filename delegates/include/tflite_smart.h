/* tflite_smart: the C API of libtflite_smart_delegate.so.
 *
 * Python (delegates/native.py), the tests, the fuzzers and JNI use it; the runtimes load the same library through
 * tflite_plugin_create_delegate. Every function that can fail returns a code, 0 for success, and, if `error` is not NULL and
 * the code is not 0, writes one line there: what was wrong, what was expected, what was received, how to mend it.
 * Nothing here keeps state except tfs_force_isa. All functions may be called from several threads.
 */
#ifndef TFLITE_SMART_H_
#define TFLITE_SMART_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TFS_EXPORT __declspec(dllexport)
#else
#define TFS_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Codes: stable, new ones are appended. */
enum {
  TFS_OK = 0,
  TFS_INVALID_ARGUMENT = 1, /* the caller's fault */
  TFS_CORRUPT = 2,          /* the bytes break a rule of converter/FORMAT.md */
  TFS_UNSUPPORTED = 3,      /* a version or a feature that this build lacks */
  TFS_OUT_OF_MEMORY = 4
};

typedef struct tfs_error {
  char message[224];
} tfs_error;

/* "ok", "invalid argument", ...; "unknown" for other numbers. */
TFS_EXPORT const char* tfs_status_string(int32_t code);

/* Version of the library, "major.minor.patch", and of the packed weights that it reads and writes. */
TFS_EXPORT const char* tfs_version(void);
TFS_EXPORT int32_t tfs_format_version(void);

/* Instruction sets that this build has and this CPU runs, slowest first: "scalar avx2 avx512". */
TFS_EXPORT const char* tfs_isa_names(void);
TFS_EXPORT const char* tfs_active_isa(void);
/* For tests: `name` is used by the whole process from now on; NULL or "" returns to the fastest. */
TFS_EXPORT int32_t tfs_force_isa(const char* name, tfs_error* error);

/* What the header of a packed weight says. Numbers as in FORMAT.md. */
typedef struct tfs_info {
  uint32_t codec, value_kind, raw_bits, num_symbols, has_escape;
  int32_t base;
  uint32_t num_channels, channel_elements, inner_elements, panels_per_tile, num_panels, num_tiles;
  uint32_t payload_bytes;
} tfs_info;

/* Parses and checks a whole packed weight. `data` must be 4-byte aligned, here and below. */
TFS_EXPORT int32_t tfs_open(const uint8_t* data, size_t size, tfs_info* info, tfs_error* error);

/* Decodes tile `tile` in pieces of at most `piece_rows` rows (0: all at once). `num_ids` must be the number of ids in the tile;
 * exactly that many int8 are written. On TFS_CORRUPT they are written too, and wrong. */
TFS_EXPORT int32_t tfs_decode_tile(const uint8_t* data, size_t size, uint32_t tile, uint32_t piece_rows, int8_t* ids,
                                   uint64_t num_ids, tfs_error* error);

/* The whole tensor in its own order: float32, or int8 for value kind `integer`. `output_bytes` must be its exact size. */
TFS_EXPORT int32_t tfs_expand(const uint8_t* data, size_t size, void* output, uint64_t output_bytes, tfs_error* error);

/* The header fields that the encoder of a tile needs. */
typedef struct tfs_coding {
  uint32_t codec, raw_bits, num_symbols, has_escape;
  int32_t base;
  uint8_t frequencies[16]; /* rans only */
} tfs_coding;

/* Encodes the ids of one tile, in tile order; the bytes equal those of converter/codecs. `tile` has room for `capacity` bytes,
 * tfs_encode_bound() are always enough; *tile_bytes is set. */
TFS_EXPORT uint64_t tfs_encode_bound(const tfs_coding* coding, uint64_t num_ids);
TFS_EXPORT int32_t tfs_encode_tile(const tfs_coding* coding, const int8_t* ids, uint64_t num_ids, uint8_t* tile, uint64_t capacity,
                                   uint64_t* tile_bytes, tfs_error* error);

/* Rounds some columns of a weight by a search through the trellis: converter/trellis.py, whose ids it equals. All arrays are contiguous;
 * weights, asked, ids and values are [num_channels][num_columns], with 1 to 64 columns. states has one byte a channel, 0..7, and is moved on. */
typedef struct tfs_trellis_block {
  const float *weights, *asked, *matrix, *importance;
  uint32_t num_channels, num_columns, dependent;
} tfs_trellis_block;
TFS_EXPORT int32_t tfs_round_block(const tfs_trellis_block* block, uint8_t* states, int8_t* ids, int8_t* values, tfs_error* error);

/* --- Doors into a runtime */

/* The external delegate, as TensorFlow Lite's external_delegate_interface.h declares it: what load_delegate(), --external_delegate_path and JNI open. Hand it
 * to the interpreter before other delegates and destroy it after the interpreter. Options as text: num_threads (1..256; default: the interpreter's) and isa,
 * see tfs_force_isa. NULL for an option that is not understood, after telling `report_error` (the standard error stream where that is NULL). */
struct TfLiteDelegate;
TFS_EXPORT struct TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t num_options,
                                                                void (*report_error)(const char* message));
TFS_EXPORT void tflite_plugin_destroy_delegate(struct TfLiteDelegate* delegate);

/* For a C++ program with an op resolver of its own, instead of the delegate:
 *   for (int32_t i = 0; tfs_op_name(i) != NULL; ++i) resolver.AddCustom(tfs_op_name(i), tfs_op_registration(i));
 * NULL past the last op. The registrations live as long as the library is loaded. Threads: as many as the first interpreter that
 * prepares such an op recommends. */
struct TfLiteRegistration;
TFS_EXPORT const char* tfs_op_name(int32_t i);
TFS_EXPORT struct TfLiteRegistration* tfs_op_registration(int32_t i);

/* For LiteRT's CompiledModel, which loads no external delegate: makes every model that is compiled in `environment` (a
 * LiteRtEnvironment) from now on use ours. `litert` is what dlopen() gave for libLiteRt.so, NULL if the program is linked with it.
 * num_threads: 1..256, or 0 for what the runtime recommends. */
TFS_EXPORT int32_t tfs_litert_register(void* environment, void* litert, int32_t num_threads, tfs_error* error);

#ifdef __cplusplus
}
#endif

#endif /* TFLITE_SMART_H_ */
