package org.tflitesmart.sample

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.DataType

/** What a float model expects of a pixel: (0..255 - mean) / std, as in training. Integer models take pixels as they are. */
data class Normalization(val mean: Float = 0f, val std: Float = 1f)

/** A class and how sure the model is of it. */
data class Score(val label: String, val score: Float)

/**
 * The pixels of a picture, as Android packs them (0xAARRGGBB, row by row), as a tensor `(1, height, width, 3)`.
 *
 * @throws IllegalArgumentException for a type that no image model takes
 */
fun pixelsToTensor(pixels: IntArray, type: DataType, normalization: Normalization): ByteBuffer {
    val bytesPerValue = if (type == DataType.FLOAT32) 4 else 1
    val tensor = ByteBuffer.allocateDirect(3 * pixels.size * bytesPerValue).order(ByteOrder.nativeOrder())
    for (pixel in pixels) {
        for (shift in intArrayOf(16, 8, 0)) {
            val value = (pixel shr shift) and 0xff
            when (type) {
                DataType.FLOAT32 -> tensor.putFloat((value - normalization.mean) / normalization.std)
                DataType.UINT8 -> tensor.put(value.toByte())
                DataType.INT8 -> tensor.put((value - 128).toByte())
                else -> throw IllegalArgumentException("input: its type must be FLOAT32, UINT8 or INT8. Received: $type.")
            }
        }
    }
    tensor.rewind()
    return tensor
}

/** The scores in an output tensor; integers are turned back with its [scale] and [zeroPoint]. */
fun tensorToScores(tensor: ByteBuffer, type: DataType, scale: Float, zeroPoint: Int): FloatArray {
    tensor.rewind()
    return when (type) {
        DataType.FLOAT32 -> FloatArray(tensor.remaining() / 4) { tensor.getFloat() }
        DataType.UINT8 -> FloatArray(tensor.remaining()) { scale * ((tensor.get().toInt() and 0xff) - zeroPoint) }
        DataType.INT8 -> FloatArray(tensor.remaining()) { scale * (tensor.get() - zeroPoint) }
        else -> throw IllegalArgumentException("output: its type must be FLOAT32, UINT8 or INT8. Received: $type.")
    }
}

/** The [count] best classes, best first; a class without a label is called by its number. */
fun topClasses(scores: FloatArray, labels: List<String>, count: Int): List<Score> =
    scores.indices
        .sortedByDescending { scores[it] }
        .take(count)
        .map { Score(labels.getOrElse(it) { number -> "class $number" }, scores[it]) }
