plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.tflitesmart.sample"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.tflitesmart.sample"
        minSdk = 23
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
    }
    // A compressed asset can't be mapped into memory. The model would hardly shrink anyway: its weights are entropy-coded.
    androidResources { noCompress += "tflite" }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }
}

dependencies {
    implementation(project(":tflite_smart"))
    implementation("com.google.ai.edge.litert:litert:1.4.2")
    implementation("androidx.activity:activity-ktx:1.9.3")
    testImplementation("junit:junit:4.13.2")
}
