package org.tflitesmart.sample

import android.content.res.AssetManager
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.net.Uri
import android.os.Bundle
import android.os.Debug
import android.os.SystemClock
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import java.io.FileInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.util.concurrent.Executors

/** Shows a picture, what the model says to it, and what that took. */
class MainActivity : ComponentActivity() {
    // One thread for everything that takes time; it alone touches the classifier.
    private val worker = Executors.newSingleThreadExecutor()
    private var classifier: Classifier? = null
    private var openedMs = 0.0

    private val picker = registerForActivityResult(ActivityResultContracts.GetContent()) { uri -> uri?.let(::classify) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_main)
        findViewById<Button>(R.id.pick).setOnClickListener { picker.launch("image/*") }
    }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun classify(uri: Uri) = worker.execute {
        try {
            val picture = readPicture(uri)
            val answer = openClassifier().classify(picture)
            val lines = answer.best.joinToString("\n") { "%s %.3f".format(it.label, it.score) }
            val text = getString(R.string.result, lines, answer.runMs, openedMs, Debug.getPss() / 1024)
            show(picture, text)
        } catch (error: IOException) {
            show(null, getString(R.string.failed, error.message))
        } catch (error: RuntimeException) { // LiteRT's: a model that it can't open or run
            show(null, getString(R.string.failed, error.message))
        }
    }

    private fun show(picture: Bitmap?, text: String) = runOnUiThread {
        findViewById<ImageView>(R.id.picture).setImageBitmap(picture)
        findViewById<TextView>(R.id.result).text = text
    }

    private fun openClassifier(): Classifier = classifier ?: run {
        val start = SystemClock.elapsedRealtimeNanos()
        val labels = assets.open("labels.txt").bufferedReader().useLines { it.toList() }
        Classifier(assets.map("smart.tflite"), labels).also {
            openedMs = (SystemClock.elapsedRealtimeNanos() - start) / 1e6
            classifier = it
        }
    }

    /** The picture, not much larger than the screen needs it. */
    private fun readPicture(uri: Uri): Bitmap {
        val size = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        decode(uri, size)
        val shorter = minOf(size.outWidth, size.outHeight)
        return decode(uri, BitmapFactory.Options().apply { inSampleSize = maxOf(1, shorter / MIN_SIDE) })
            ?: throw IOException("$uri: must be a picture.")
    }

    private fun decode(uri: Uri, options: BitmapFactory.Options): Bitmap? =
        contentResolver.openInputStream(uri)?.use { BitmapFactory.decodeStream(it, null, options) }

    private companion object {
        const val MIN_SIDE = 512
    }
}

/** A model in the APK, mapped: its pages are read when they are needed, and never copied. */
private fun AssetManager.map(name: String): ByteBuffer = openFd(name).use { file ->
    FileInputStream(file.fileDescriptor).use { stream ->
        stream.channel.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
    }
}
