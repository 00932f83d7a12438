/* Runs a library that was built for Android: `android_probe LIBRARY PACKED OUTPUT OUTPUT_BYTES` expands a packed weight with it. A program for musl, whose C library
 * stands in for Android's: it takes the names libc.so, libm.so and libdl.so for its own. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "tflite_smart.h"

#define LOAD(name)                              \
  __typeof__(&name) p_##name = dlsym(library, #name); \
  if (p_##name == NULL) return 3

static char file_bytes[1 << 20] __attribute__((aligned(64)));

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  LOAD(tfs_isa_names);
  LOAD(tfs_expand);
  LOAD(tflite_plugin_create_delegate);
  LOAD(tflite_plugin_destroy_delegate);
  printf("%s\n", p_tfs_isa_names());
  const char* keys[] = {"num_threads"};
  const char* values[] = {"2"};
  struct TfLiteDelegate* delegate = p_tflite_plugin_create_delegate(keys, values, 1, NULL);
  if (delegate == NULL) return 4;
  p_tflite_plugin_destroy_delegate(delegate);

  FILE* file = fopen(argv[2], "rb");
  const size_t size = fread(file_bytes, 1, sizeof(file_bytes), file), output_bytes = strtoul(argv[4], NULL, 10);
  void* output = malloc(output_bytes);
  tfs_error error;
  if (p_tfs_expand((const uint8_t*)file_bytes, size, output, output_bytes, &error) != TFS_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 5;
  }
  FILE* result = fopen(argv[3], "wb");
  return fwrite(output, 1, output_bytes, result) == output_bytes && fclose(result) == 0 ? 0 : 6;
}
