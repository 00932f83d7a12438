/* Runs a smart model with one float input and one float output through LiteRT's CompiledModel.
 *
 *   compiled_model MODEL.tflite INPUT OUTPUT      INPUT and OUTPUT hold raw float32 values
 *
 * The one call that a plain model does not need is tfs_litert_register().
 */
#include <stdio.h>
#include <stdlib.h>

#include "litert_c_api.h"
#include "tflite_smart.h"

static void Check(LiteRtStatus status, const char* what) {
  if (status == 0) return;
  fprintf(stderr, "%s: LiteRT's status is %d\n", what, status);
  exit(1);
}

static LiteRtTensorBuffer MakeBuffer(LiteRtEnvironment environment, LiteRtTensorBufferRequirements requirements, LiteRtLayout layout, size_t* size) {
  LiteRtRankedTensorType type = {kLiteRtElementTypeFloat32, layout};
  LiteRtTensorBuffer buffer;
  Check(LiteRtGetTensorBufferRequirementsBufferSize(requirements, size), "size of a buffer");
  Check(LiteRtCreateManagedTensorBuffer(environment, kLiteRtTensorBufferTypeHostMemory, &type, *size, &buffer), "buffer");
  return buffer;
}

static size_t Bytes(LiteRtLayout layout) {
  size_t bytes = sizeof(float);
  for (unsigned int i = 0; i < layout.rank; ++i) bytes *= (size_t)layout.dimensions[i];
  return bytes;
}

/* Copies a whole file into the buffer, or the buffer into a file. */
static void Transfer(const char* path, LiteRtTensorBuffer buffer, size_t size, int write) {
  void* memory;
  FILE* file = fopen(path, write ? "wb" : "rb");
  Check(LiteRtLockTensorBuffer(buffer, &memory, write ? kLiteRtTensorBufferLockModeRead : kLiteRtTensorBufferLockModeWrite), "lock");
  if (file == NULL || (write ? fwrite(memory, 1, size, file) : fread(memory, 1, size, file)) != size || fclose(file) != 0) {
    fprintf(stderr, "%s: must %s %zu bytes\n", path, write ? "take" : "hold", size);
    exit(1);
  }
  Check(LiteRtUnlockTensorBuffer(buffer), "unlock");
}

int main(int argc, char** argv) {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  LiteRtLayout input_layout, output_layout;
  LiteRtTensorBufferRequirements requirements;
  size_t size;
  tfs_error error;
  if (argc != 4) {
    fprintf(stderr, "usage: %s MODEL.tflite INPUT OUTPUT\n", argv[0]);
    return 2;
  }

  Check(LiteRtCreateEnvironment(0, NULL, &environment), "environment");
  if (tfs_litert_register(environment, NULL, /*num_threads=*/1, &error) != TFS_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  Check(LiteRtCreateModelFromFile(environment, argv[1], &model), argv[1]);
  Check(LiteRtCreateOptions(&options), "options");
  Check(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu), "options");
  Check(LiteRtCreateCompiledModel(environment, model, options, &compiled), "compilation");

  Check(LiteRtGetCompiledModelInputTensorLayout(compiled, 0, 0, &input_layout), "input");
  Check(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &requirements), "input");
  LiteRtTensorBuffer input = MakeBuffer(environment, requirements, input_layout, &size);
  Check(LiteRtGetCompiledModelOutputTensorLayouts(compiled, 0, 1, &output_layout, 1), "output");
  Check(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, &requirements), "output");
  LiteRtTensorBuffer output = MakeBuffer(environment, requirements, output_layout, &size);

  Transfer(argv[2], input, Bytes(input_layout), 0);
  Check(LiteRtRunCompiledModel(compiled, 0, 1, &input, 1, &output), "run");
  Transfer(argv[3], output, Bytes(output_layout), 1);

  LiteRtDestroyTensorBuffer(input);
  LiteRtDestroyTensorBuffer(output);
  LiteRtDestroyCompiledModel(compiled);
  LiteRtDestroyOptions(options);
  LiteRtDestroyModel(model);
  LiteRtDestroyEnvironment(environment);
  return 0;
}
