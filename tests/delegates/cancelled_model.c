/* samples/cpp/compiled_model.c, whose run is called off after 0, 1, 2 ... questions until one comes to its end; then the last is run again, undisturbed.
 * Prints how many questions a whole run asks. */
#include <stdbool.h>

#include "litert_c_api.h"

LiteRtStatus LiteRtSetCompiledModelCancellationFunction(LiteRtCompiledModel compiled_model, void* data, bool (*check_cancelled)(void*));

typedef struct {
  int asked, patience;
} Questions;

static bool Cancelled(void* data) {
  Questions* questions = data;
  return ++questions->asked > questions->patience;
}

static LiteRtStatus RunCalledOff(LiteRtCompiledModel compiled, LiteRtParamIndex signature, size_t num_inputs, LiteRtTensorBuffer* inputs, size_t num_outputs,
                                 LiteRtTensorBuffer* outputs);

#define LiteRtRunCompiledModel RunCalledOff
#include "compiled_model.c"
#undef LiteRtRunCompiledModel

LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled, LiteRtParamIndex signature, size_t num_inputs, LiteRtTensorBuffer* inputs, size_t num_outputs,
                                    LiteRtTensorBuffer* outputs);

static LiteRtStatus RunCalledOff(LiteRtCompiledModel compiled, LiteRtParamIndex signature, size_t num_inputs, LiteRtTensorBuffer* inputs, size_t num_outputs,
                                 LiteRtTensorBuffer* outputs) {
  Questions questions = {0, -1};
  LiteRtStatus status;
  do {
    questions.asked = 0;
    ++questions.patience;
    LiteRtSetCompiledModelCancellationFunction(compiled, &questions, Cancelled);
    status = LiteRtRunCompiledModel(compiled, signature, num_inputs, inputs, num_outputs, outputs);
  } while (status != 0 && questions.patience < 100);
  printf("%d\n", questions.asked);
  questions.patience = 1 << 30; /* a null function is refused */
  return LiteRtRunCompiledModel(compiled, signature, num_inputs, inputs, num_outputs, outputs);
}
