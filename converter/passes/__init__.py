"""Graph edits, one a file: pure functions of the model and one place in it, without numerics."""

from tflite_smart.converter.passes import conv2d, depthwise_conv2d, fully_connected, gather

# The operators that our kernels compute straight from the packed weight. All others that have weights get an Expand.
FUSED = {
    "CONV_2D": conv2d,
    "DEPTHWISE_CONV_2D": depthwise_conv2d,
    "FULLY_CONNECTED": fully_connected,
    "GATHER": gather,
    "EMBEDDING_LOOKUP": gather,
}
