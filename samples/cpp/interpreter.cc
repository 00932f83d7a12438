// Runs a smart model with one input and one output through TensorFlow Lite's interpreter, in C++. The delegate is loaded at run time: an app that
// already ships needs no new link, and runs plain models where the library is missing.
//
//   interpreter libtflite_smart_delegate.so MODEL.tflite INPUT OUTPUT      INPUT and OUTPUT hold the raw bytes of the tensors
#include <dlfcn.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tflite_c_api.h"

namespace {

struct Delete {
  void operator()(TfLiteModel* model) const { TfLiteModelDelete(model); }
  void operator()(TfLiteInterpreterOptions* options) const { TfLiteInterpreterOptionsDelete(options); }
  void operator()(TfLiteInterpreter* interpreter) const { TfLiteInterpreterDelete(interpreter); }
};
template <typename T>
using Owned = std::unique_ptr<T, Delete>;

void Check(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what + " failed");
}

// An external delegate in a library of its own: two functions, known by name.
class ExternalDelegate {
 public:
  ExternalDelegate(const char* library, const std::vector<const char*>& keys, const std::vector<const char*>& values)
      : library_(dlopen(library, RTLD_NOW | RTLD_LOCAL), dlclose) {
    Check(library_ != nullptr, std::string("loading ") + library);
    const auto create = reinterpret_cast<Create*>(dlsym(library_.get(), "tflite_plugin_create_delegate"));
    destroy_ = reinterpret_cast<Destroy*>(dlsym(library_.get(), "tflite_plugin_destroy_delegate"));
    Check(create != nullptr && destroy_ != nullptr, std::string("finding a delegate in ") + library);
    delegate_ = create(keys.data(), values.data(), keys.size(), [](const char* message) { std::fprintf(stderr, "%s\n", message); });
    Check(delegate_ != nullptr, "making the delegate");
  }
  ~ExternalDelegate() { destroy_(delegate_); }
  ExternalDelegate(const ExternalDelegate&) = delete;
  ExternalDelegate& operator=(const ExternalDelegate&) = delete;
  TfLiteDelegate* get() const { return delegate_; }

 private:
  using Create = TfLiteDelegate*(const char* const*, const char* const*, size_t, void (*)(const char*));
  using Destroy = void(TfLiteDelegate*);
  std::unique_ptr<void, int (*)(void*)> library_;
  Destroy* destroy_ = nullptr;
  TfLiteDelegate* delegate_ = nullptr;
};

std::vector<char> Run(const char* library, const char* path, const std::vector<char>& input) {
  const Owned<TfLiteModel> model(TfLiteModelCreateFromFile(path));
  Check(model != nullptr, path);
  const ExternalDelegate delegate(library, {"num_threads"}, {"2"});  // outlives the interpreter
  const Owned<TfLiteInterpreterOptions> options(TfLiteInterpreterOptionsCreate());
  TfLiteInterpreterOptionsAddDelegate(options.get(), delegate.get());  // before any other delegate
  const Owned<TfLiteInterpreter> interpreter(TfLiteInterpreterCreate(model.get(), options.get()));
  Check(interpreter != nullptr && TfLiteInterpreterAllocateTensors(interpreter.get()) == 0, "preparing the model");

  Check(TfLiteTensorCopyFromBuffer(TfLiteInterpreterGetInputTensor(interpreter.get(), 0), input.data(), input.size()) == 0, "setting the input");
  Check(TfLiteInterpreterInvoke(interpreter.get()) == 0, "the run");
  const TfLiteTensor* result = TfLiteInterpreterGetOutputTensor(interpreter.get(), 0);
  std::vector<char> output(TfLiteTensorByteSize(result));
  Check(TfLiteTensorCopyToBuffer(result, output.data(), output.size()) == 0, "reading the output");
  return output;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: %s libtflite_smart_delegate.so MODEL.tflite INPUT OUTPUT\n", argv[0]);
    return 2;
  }
  try {
    std::ifstream source(argv[3], std::ios::binary);
    Check(source.good(), argv[3]);
    const std::vector<char> input((std::istreambuf_iterator<char>(source)), std::istreambuf_iterator<char>());
    const std::vector<char> output = Run(argv[1], argv[2], input);
    std::ofstream result(argv[4], std::ios::binary);
    Check(result.write(output.data(), static_cast<std::streamsize>(output.size())).flush().good(), argv[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
