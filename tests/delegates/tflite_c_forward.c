/* TensorFlow Lite's C API, every function forwarded to a pointer that c_api_child.py sets: no package that the tests could install has
 * libtensorflowlite_c. The declarations are those of the samples. */
#include "tflite_c_api.h"

#define FORWARD(result, name, parameters, arguments) \
  result(*python_##name) parameters;                 \
  result name parameters { return python_##name arguments; }

FORWARD(TfLiteModel*, TfLiteModelCreateFromFile, (const char* path), (path))
FORWARD(void, TfLiteModelDelete, (TfLiteModel * model), (model))
FORWARD(TfLiteInterpreterOptions*, TfLiteInterpreterOptionsCreate, (void), ())
FORWARD(void, TfLiteInterpreterOptionsDelete, (TfLiteInterpreterOptions * options), (options))
FORWARD(void, TfLiteInterpreterOptionsSetNumThreads, (TfLiteInterpreterOptions * options, int32_t num_threads), (options, num_threads))
FORWARD(void, TfLiteInterpreterOptionsAddDelegate, (TfLiteInterpreterOptions * options, TfLiteDelegate* delegate), (options, delegate))
FORWARD(TfLiteInterpreter*, TfLiteInterpreterCreate, (const TfLiteModel* model, const TfLiteInterpreterOptions* options), (model, options))
FORWARD(void, TfLiteInterpreterDelete, (TfLiteInterpreter * interpreter), (interpreter))
FORWARD(TfLiteStatus, TfLiteInterpreterAllocateTensors, (TfLiteInterpreter * interpreter), (interpreter))
FORWARD(TfLiteStatus, TfLiteInterpreterInvoke, (TfLiteInterpreter * interpreter), (interpreter))
FORWARD(TfLiteTensor*, TfLiteInterpreterGetInputTensor, (const TfLiteInterpreter* interpreter, int32_t i), (interpreter, i))
FORWARD(const TfLiteTensor*, TfLiteInterpreterGetOutputTensor, (const TfLiteInterpreter* interpreter, int32_t i), (interpreter, i))
FORWARD(size_t, TfLiteTensorByteSize, (const TfLiteTensor* tensor), (tensor))
FORWARD(TfLiteStatus, TfLiteTensorCopyFromBuffer, (TfLiteTensor * tensor, const void* data, size_t bytes), (tensor, data, bytes))
FORWARD(TfLiteStatus, TfLiteTensorCopyToBuffer, (const TfLiteTensor* tensor, void* data, size_t bytes), (tensor, data, bytes))
