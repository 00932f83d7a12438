// The one way errors travel inside the library: no exceptions, no abort, no null in silence.
#ifndef TFLITE_SMART_CORE_STATUS_H_
#define TFLITE_SMART_CORE_STATUS_H_

#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace tflite_smart {

// The values are part of the C API (tfs_status_string): append, never renumber.
enum class Code : int32_t {
  kOk = 0,
  kInvalidArgument = 1,  // the caller's fault: a size, a name, an order of calls
  kCorrupt = 2,          // the bytes break a rule of FORMAT.md or a check sum
  kUnsupported = 3,      // a version or a feature that this build lacks
  kOutOfMemory = 4,
};

// A code and, unless it is kOk, one line: "<what>: <field> must be <expected>. Received: <field>=<got>. <How to mend it>."
struct Status {
  Code code = Code::kOk;
  char message[224];

  Status() { message[0] = '\0'; }
  bool ok() const { return code == Code::kOk; }
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
inline Status MakeError(Code code, const char* format, ...) {
  Status status;
  status.code = code;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(status.message, sizeof(status.message), format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace tflite_smart

#define TFS_RETURN_IF_ERROR(expression)                            \
  do {                                                             \
    const ::tflite_smart::Status tfs_status_ = (expression);       \
    if (!tfs_status_.ok()) return tfs_status_;                     \
  } while (false)

#endif  // TFLITE_SMART_CORE_STATUS_H_
