// The delegate as an Android library (AAR): SmartDelegate and libtflite_smart_delegate.so for three kinds of processor.
// Part of a build that includes it, such as samples/android: gradle :tflite_smart:assembleRelease
plugins {
    id("com.android.library")
}

android {
    namespace = "org.tflitesmart"
    compileSdk = 35
    // The first NDK whose own libraries are ready for pages of 16 KB; ours are in any.
    ndkVersion = "28.0.13004108"

    defaultConfig {
        minSdk = 23 // ANDROID_API in delegates/cross_build.py
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64") }
        externalNativeBuild {
            cmake {
                arguments += listOf("-DTFS_BUILD_JNI=ON", "-DANDROID_STL=c++_static", "-DANDROID_SUPPORT_FLEXIBLE_PAGE_SIZES=ON")
                targets += listOf("tflite_smart_delegate", "tflite_smart_jni")
            }
        }
    }
    buildTypes {
        // The kernels are nothing without the optimizer, in an app that is being debugged too.
        all { externalNativeBuild { cmake { arguments += "-DCMAKE_BUILD_TYPE=Release" } } }
    }
    externalNativeBuild {
        cmake {
            path = file("../CMakeLists.txt")
            version = "3.22.1"
        }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies {
    // The app brings the runtime; here only the interface org.tensorflow.lite.Delegate.
    compileOnly("com.google.ai.edge.litert:litert-api:1.4.2")
}
