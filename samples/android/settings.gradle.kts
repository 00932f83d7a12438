pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositoriesMode = RepositoriesMode.FAIL_ON_PROJECT_REPOS
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "smart-classifier"
include(":app")
// The delegate with its C++ sources, built with the app. With a published AAR, take that in app/build.gradle.kts instead.
include(":tflite_smart")
project(":tflite_smart").projectDir = file("../../delegates/android")
