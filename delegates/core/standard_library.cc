// What the library takes from the C++ standard library as code, in its smallest form. The library is compiled without exceptions and linked
// statically; libstdc++'s own versions of these bring the unwinder, the demangler and the string classes with them, more code than all
// decoders and kernels together. Local to the library: exports.map hides them.
#include <pthread.h>

#include <cstdlib>
#include <mutex>
#include <new>

void* operator new(std::size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();  // only for the few bytes that have no other way to fail; all else asks with std::nothrow
  return memory;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept { return operator new(size, tag); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

extern "C" void __cxa_pure_virtual() { std::abort(); }

// Local statics that are made on first use. The compiler hands in a word whose first byte says that the variable is there, and asks only if it is 0.
static pthread_mutex_t guard_mutex = PTHREAD_MUTEX_INITIALIZER;
extern "C" int __cxa_guard_acquire(unsigned char* made) {
  pthread_mutex_lock(&guard_mutex);
  if (*made == 0) return 1;
  pthread_mutex_unlock(&guard_mutex);
  return 0;
}
extern "C" void __cxa_guard_release(unsigned char* made) {
  __atomic_store_n(made, 1, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&guard_mutex);
}
// Never called without exceptions, but libc++ refers to it, and its own comes with the two above.
extern "C" void __cxa_guard_abort(unsigned char*) { pthread_mutex_unlock(&guard_mutex); }

#if defined(__GLIBCXX__)
namespace std {
void __throw_length_error(const char*) { std::abort(); }  // a std::vector longer than memory
void __throw_bad_alloc() { std::abort(); }
void __throw_bad_array_new_length() { std::abort(); }
void __throw_system_error(int) { std::abort(); }  // a std::mutex that is none
}  // namespace std
#endif

#if defined(_LIBCPP_VERSION)
_LIBCPP_BEGIN_NAMESPACE_STD
void mutex::lock() { pthread_mutex_lock(native_handle()); }
bool mutex::try_lock() noexcept { return pthread_mutex_trylock(native_handle()) == 0; }
void mutex::unlock() noexcept { pthread_mutex_unlock(native_handle()); }
#if defined(__ANDROID__)
mutex::~mutex() noexcept { pthread_mutex_destroy(native_handle()); }  // elsewhere there is nothing to destroy
#endif
// Some versions of libc++ declare it noexcept, others don't.
[[noreturn]] void __libcpp_verbose_abort(const char*, ...) noexcept(noexcept(__libcpp_verbose_abort(""))) { std::abort(); }
_LIBCPP_END_NAMESPACE_STD
const std::nothrow_t std::nothrow{};
#endif
