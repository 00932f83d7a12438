"""Story 3: my model is full-integer int8 already; can it be smaller and stay exactly what it is?

    python samples/03_recompress_an_int8_model.py

Yes: the recipe `recompress_int8` stores the same integers with fewer bits, and every output is equal, bit for bit, when the same kernels run.
XNNPACK takes only weights that are constants, so the layers of the compressed model run on LiteRT's builtin kernels, which round a little
differently: compare without XNNPACK, as here and in `tflite_smart verify --no-xnnpack --tolerance 0`.
"""

import digits
import numpy as np

import tflite_smart as ts
from tflite_smart.runner import Runner

source = digits.tflite("int8")
target = digits.OUT / "03.smart.tflite"
ts.convert(source, recipe="recompress_int8", output=target, overwrite=True)
print(f"{source.name}: {source.stat().st_size:,} bytes, {target.name}: {target.stat().st_size:,} bytes")

_, (x, _) = digits.data()
one, other = Runner(source, xnnpack=False), Runner(target, xnnpack=False)
for feed in one.batches(one.named({"image": x})):
    for a, b in zip(one(feed).values(), other(feed).values()):
        if not np.array_equal(a, b):
            raise SystemExit("an output differs")
print(f"all outputs of {len(x)} images are equal, bit for bit")
