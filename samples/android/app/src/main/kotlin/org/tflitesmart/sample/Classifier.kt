package org.tflitesmart.sample

import android.graphics.Bitmap
import android.os.SystemClock
import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter
import org.tflitesmart.SmartDelegate

/** The answer to one picture. */
data class Classification(val best: List<Score>, val runMs: Double)

/**
 * An image classifier: the model takes one picture `(1, height, width, 3)` and gives one score per class.
 *
 * One thread at a time. [model] may be plain or smart: a plain one gives the delegate nothing to do.
 */
class Classifier(
    model: ByteBuffer,
    private val labels: List<String>,
    private val normalization: Normalization = Normalization(),
    numThreads: Int = Runtime.getRuntime().availableProcessors().coerceAtMost(4),
) : Closeable {
    private val delegate = SmartDelegate(SmartDelegate.Options().setNumThreads(numThreads))
    private val interpreter: Interpreter

    init {
        val options = Interpreter.Options().addDelegate(delegate).setNumThreads(numThreads)
        interpreter = try {
            Interpreter(model, options)
        } catch (error: RuntimeException) {
            delegate.close() // nobody else will
            throw error
        }
    }

    private val input = interpreter.getInputTensor(0)
    private val output = interpreter.getOutputTensor(0)
    private val scores = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())

    /** Classifies the middle of [picture]. */
    fun classify(picture: Bitmap, count: Int = 3): Classification {
        val (_, height, width) = input.shape()
        val side = minOf(picture.width, picture.height)
        val middle = Bitmap.createBitmap(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side)
        val pixels = IntArray(width * height)
        Bitmap.createScaledBitmap(middle, width, height, true).getPixels(pixels, 0, width, 0, 0, width, height)
        val tensor = pixelsToTensor(pixels, input.dataType(), normalization)

        scores.rewind()
        val start = SystemClock.elapsedRealtimeNanos()
        interpreter.run(tensor, scores)
        val runMs = (SystemClock.elapsedRealtimeNanos() - start) / 1e6
        val parameters = output.quantizationParams()
        val values = tensorToScores(scores, output.dataType(), parameters.scale, parameters.zeroPoint)
        return Classification(topClasses(values, labels, count), runMs)
    }

    /** The interpreter first: it uses the delegate. */
    override fun close() {
        interpreter.close()
        delegate.close()
    }
}
