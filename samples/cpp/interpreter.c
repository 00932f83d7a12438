/* Runs a smart model with one input and one output through TensorFlow Lite's interpreter, in C. The delegate is linked with the program.
 *
 *   interpreter MODEL.tflite INPUT OUTPUT      INPUT and OUTPUT hold the raw bytes of the tensors
 *
 * What a plain model does not need stands between the lines.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tflite_c_api.h"
#include "tflite_smart.h"

static void Check(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

static void Complain(const char* message) { fprintf(stderr, "%s\n", message); }

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s MODEL.tflite INPUT OUTPUT\n", argv[0]);
    return 2;
  }
  TfLiteModel* model = TfLiteModelCreateFromFile(argv[1]);
  Check(model != NULL, argv[1]);
  TfLiteInterpreterOptions* options = TfLiteInterpreterOptionsCreate();
  /* ---------------------------------------------------------------- */
  const char* keys[] = {"num_threads"};
  const char* values[] = {"2"};
  TfLiteDelegate* delegate = tflite_plugin_create_delegate(keys, values, 1, Complain);
  if (delegate == NULL) return 1;
  TfLiteInterpreterOptionsAddDelegate(options, delegate); /* before any other delegate */
  /* ---------------------------------------------------------------- */
  TfLiteInterpreter* interpreter = TfLiteInterpreterCreate(model, options);
  Check(interpreter != NULL && TfLiteInterpreterAllocateTensors(interpreter) == 0, "preparing the model");

  TfLiteTensor* input = TfLiteInterpreterGetInputTensor(interpreter, 0);
  const TfLiteTensor* output = TfLiteInterpreterGetOutputTensor(interpreter, 0);
  size_t input_bytes = TfLiteTensorByteSize(input), output_bytes = TfLiteTensorByteSize(output);
  void* data = malloc(input_bytes > output_bytes ? input_bytes : output_bytes);
  Check(data != NULL, "memory");

  FILE* file = fopen(argv[2], "rb");
  Check(file != NULL && fread(data, 1, input_bytes, file) == input_bytes && fclose(file) == 0, argv[2]);
  Check(TfLiteTensorCopyFromBuffer(input, data, input_bytes) == 0, "setting the input");
  Check(TfLiteInterpreterInvoke(interpreter) == 0, "the run");
  Check(TfLiteTensorCopyToBuffer(output, data, output_bytes) == 0, "reading the output");
  file = fopen(argv[3], "wb");
  Check(file != NULL && fwrite(data, 1, output_bytes, file) == output_bytes && fclose(file) == 0, argv[3]);

  free(data);
  TfLiteInterpreterDelete(interpreter);
  tflite_plugin_destroy_delegate(delegate); /* after the interpreter */
  TfLiteInterpreterOptionsDelete(options);
  TfLiteModelDelete(model);
  return 0;
}
