package org.tflitesmart.sample

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test
import org.tensorflow.lite.DataType

class TensorsTest {
    private val pixels = intArrayOf(0xff0080ff.toInt(), 0x00010203)

    private fun bytes(tensor: ByteBuffer) = ByteArray(tensor.remaining()).also { tensor.get(it) }

    @Test
    fun pixelsAreRedGreenBlueWithoutAlpha() {
        assertArrayEquals(byteArrayOf(0, 128.toByte(), 255.toByte(), 1, 2, 3), bytes(pixelsToTensor(pixels, DataType.UINT8, Normalization())))
    }

    @Test
    fun int8StartsAtMinus128() {
        assertArrayEquals(byteArrayOf(-128, 0, 127, -127, -126, -125), bytes(pixelsToTensor(pixels, DataType.INT8, Normalization())))
    }

    @Test
    fun floatsAreNormalized() {
        val tensor = pixelsToTensor(pixels, DataType.FLOAT32, Normalization(mean = 128f, std = 64f))
        assertArrayEquals(floatArrayOf(-2f, 0f, 127f / 64f), FloatArray(3) { tensor.getFloat() }, 0f)
        assertEquals(3 * 4, tensor.remaining())
    }

    @Test
    fun otherTypesAreNamed() {
        val error = assertThrows(IllegalArgumentException::class.java) { pixelsToTensor(pixels, DataType.INT64, Normalization()) }
        assertEquals("input: its type must be FLOAT32, UINT8 or INT8. Received: INT64.", error.message)
    }

    @Test
    fun scoresAreTurnedBack() {
        val tensor = ByteBuffer.wrap(byteArrayOf(-1, 1))
        assertArrayEquals(floatArrayOf(127.5f, 0.5f), tensorToScores(tensor, DataType.UINT8, 0.5f, 0), 0f)
        assertArrayEquals(floatArrayOf(1f, 2f), tensorToScores(tensor, DataType.INT8, 0.5f, -3), 0f)
        val floats = ByteBuffer.allocate(8).order(ByteOrder.nativeOrder()).putFloat(0.25f).putFloat(-1f)
        assertArrayEquals(floatArrayOf(0.25f, -1f), tensorToScores(floats, DataType.FLOAT32, 0f, 0), 0f)
    }

    @Test
    fun bestClassesFirst() {
        val best = topClasses(floatArrayOf(0.1f, 0.7f, 0.2f), listOf("cat", "dog"), 2)
        assertEquals(listOf(Score("dog", 0.7f), Score("class 2", 0.2f)), best)
    }
}
