// The native half of SmartDelegate.java: the external-delegate door, called from Java. What the delegate complains about becomes an IllegalArgumentException.
#include <jni.h>

#include <cstddef>
#include <cstdint>

#include "tflite_smart.h"

namespace {

constexpr jint kJniVersion = JNI_VERSION_1_6;
constexpr int kMaxOptions = 16;
constexpr int kMaxTextBytes = 64;  // with the final zero

JavaVM* java_vm = nullptr;

void Throw(JNIEnv* env, const char* message) {
  char ascii[sizeof(tfs_error::message)];  // a message may quote an option and be cut inside a letter, which the JVM would not forgive
  size_t i = 0;
  for (; message[i] != '\0' && i + 1 < sizeof(ascii); ++i) ascii[i] = (message[i] & 0x80) != 0 ? '?' : message[i];
  ascii[i] = '\0';
  if (jclass exception = env->FindClass("java/lang/IllegalArgumentException")) env->ThrowNew(exception, ascii);
}

// The door's callback is not told for whom it is called: for the thread it is called on.
void ThrowHere(const char* message) {
  void* env = nullptr;
  if (java_vm->GetEnv(&env, kJniVersion) == JNI_OK) Throw(static_cast<JNIEnv*>(env), message);
}

// False, with an exception, for a text that is null or too long.
bool CopyText(JNIEnv* env, jobjectArray array, jsize i, char (*text)[kMaxTextBytes]) {
  jstring string = static_cast<jstring>(env->GetObjectArrayElement(array, i));
  if (string == nullptr || env->GetStringUTFLength(string) >= kMaxTextBytes) {
    Throw(env, "SmartDelegate: keys and values of options must be texts of at most 63 bytes. Received: null, or a longer one.");
    return false;
  }
  env->GetStringUTFRegion(string, 0, env->GetStringLength(string), *text);
  (*text)[env->GetStringUTFLength(string)] = '\0';
  env->DeleteLocalRef(string);
  return true;
}

}  // namespace

extern "C" {

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
  java_vm = vm;
  return kJniVersion;
}

JNIEXPORT jstring JNICALL Java_org_tflitesmart_SmartDelegate_version(JNIEnv* env, jclass) { return env->NewStringUTF(tfs_version()); }

JNIEXPORT jlong JNICALL Java_org_tflitesmart_SmartDelegate_create(JNIEnv* env, jclass, jobjectArray keys, jobjectArray values) {
  const jsize num_options = env->GetArrayLength(keys);
  if (num_options > kMaxOptions) {
    Throw(env, "SmartDelegate: there must be at most 16 options. Received: more.");
    return 0;
  }
  char texts[2][kMaxOptions][kMaxTextBytes];
  const char* pointers[2][kMaxOptions];
  for (jsize i = 0; i < num_options; ++i) {
    if (!CopyText(env, keys, i, &texts[0][i]) || !CopyText(env, values, i, &texts[1][i])) return 0;
    for (int side = 0; side < 2; ++side) pointers[side][i] = texts[side][i];
  }
  TfLiteDelegate* delegate = tflite_plugin_create_delegate(pointers[0], pointers[1], static_cast<size_t>(num_options), ThrowHere);
  if (delegate == nullptr && !env->ExceptionCheck()) Throw(env, "SmartDelegate: there must be memory for it. Received: none.");
  return static_cast<jlong>(reinterpret_cast<intptr_t>(delegate));
}

JNIEXPORT void JNICALL Java_org_tflitesmart_SmartDelegate_destroy(JNIEnv*, jclass, jlong handle) {
  tflite_plugin_destroy_delegate(reinterpret_cast<TfLiteDelegate*>(static_cast<intptr_t>(handle)));
}

}  // extern "C"
