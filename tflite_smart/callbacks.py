"""Callbacks for wrapped models. Training needs none of them: the methods run by themselves."""

import keras

from tflite_smart.describe import summarize


class CompressionLog(keras.callbacks.Callback):
    """Adds the compression of every wrapped weight to the logs of each epoch: `sparsity/PATH`, `error/PATH`, and `bits/PATH` where it is known.

    Put it before `TensorBoard` or `CSVLogger` in the list; they and the `History` then have the values.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        for row in summarize(self.model):
            logs[f"sparsity/{row.path}"] = row.sparsity
            logs[f"error/{row.path}"] = row.relative_error
            if row.bits_per_weight is not None:
                logs[f"bits/{row.path}"] = row.bits_per_weight
