"""Chains of convolutions and pools with large images between them: computed a band of lines at a time, they are what the ops make of whole images."""

import dataclasses

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.delegates import models
from tests.delegates.running import invoke, make_interpreter
from tests.delegates.test_neighbours import add_node

CHANNELS = 32
HEIGHT, WIDTH = 100, 96  # of 32 channels: 1.2 MB


@dataclasses.dataclass
class Step:
    """One op, from an image of 32 channels to one of 32."""

    kind: str = "Conv2D"
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    padding: str = "SAME"

    def out(self, height, width):
        reaches = [(size - 1) * self.dilation + 1 for size in self.size]
        taken = [0 if self.padding == "SAME" else reach - 1 for reach in reaches]
        return tuple((size - lost + self.stride - 1) // self.stride for size, lost in zip((height, width), taken))

    def add(self, model, rng, x, y):
        if self.kind == "MAX_POOL_2D":
            options = schema.Pool2DOptionsT()
            options.padding = getattr(schema.Padding, self.padding)
            options.strideH = options.strideW = self.stride
            options.filterHeight, options.filterWidth = self.size
            return model.builtin(self.kind, [x], [y], options)
        depthwise = self.kind == "DepthwiseConv2D"
        shape = (1, *self.size, CHANNELS) if depthwise else (CHANNELS, *self.size, CHANNELS)
        options = {**models.CONV_OPTIONS, "filter_h": self.size[0], "filter_w": self.size[1], "stride_h": self.stride, "stride_w": self.stride,
                   "dilation_h": self.dilation, "dilation_w": self.dilation, "padding": self.padding, "activation": "RELU"}
        options |= {"depth_multiplier": 1} if depthwise else {"filter_in": CHANNELS}
        weight = models.random_weight(rng, shape, 3 if depthwise else 0)
        bias = model.constant("bias", rng.normal(size=CHANNELS).astype(np.float32))
        model.custom(f"TFLiteSmart.{self.kind}", [x, model.packed("filter", weight), bias], [y], options)


def chain_model(steps, *, height=HEIGHT, width=WIDTH, whole=False, residual=False):
    """x -> the steps, one after another. whole: every tensor is an output, so that none may be missing. residual: the last image and the one two steps before it are added."""
    rng = np.random.default_rng(1)
    model = models.ModelBuilder()
    sizes = [(height, width)]
    for step in steps:
        sizes.append(step.out(*sizes[-1]))
    tensors = [model.tensor(f"t{i}", (1, *size, CHANNELS)) for i, size in enumerate(sizes)]
    for step, x, y in zip(steps, tensors, tensors[1:]):
        step.add(model, rng, x, y)
    if residual:
        tensors.append(model.tensor("sum", (1, *sizes[-1], CHANNELS)))
        add_node(model, [tensors[-2], tensors[-4]], tensors[-1])
    return model.build(tensors[:1], tensors[:0:-1] if whole else tensors[-1:])


def workspace_bytes(interpreter) -> int:
    return sum(int(np.prod(t["shape"])) for t in interpreter.get_tensor_details() if t["name"] == "TFLiteSmart workspace")


def image(rng, height=HEIGHT, width=WIDTH):
    return rng.normal(size=(1, height, width, CHANNELS)).astype(np.float32)


POINTWISE, DEPTHWISE = Step(), Step("DepthwiseConv2D", (3, 3))
CHAINS = {
    "expand, depthwise, project": [POINTWISE, DEPTHWISE, POINTWISE],
    "halved on the way": [POINTWISE, Step("DepthwiseConv2D", (3, 3), stride=2), POINTWISE],
    "windows of windows": [Step("DepthwiseConv2D", (5, 5)), Step("DepthwiseConv2D", (3, 3)), Step("DepthwiseConv2D", (5, 3))],
    "without padding": [POINTWISE, Step("DepthwiseConv2D", (5, 3), padding="VALID"), POINTWISE],
    "dilated": [POINTWISE, Step("DepthwiseConv2D", (3, 3), dilation=3), POINTWISE],
    "lines that nobody needs": [POINTWISE, Step("DepthwiseConv2D", (2, 2), stride=4), POINTWISE],
    "a pool": [POINTWISE, Step("MAX_POOL_2D", (3, 3), stride=2)],
    "large filters": [Step("Conv2D", (5, 5)), Step("Conv2D", (4, 4), stride=2)],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("threads", [1, 2])
def test_bands_are_the_whole(rng, name, threads):
    """Of lines of 96 and 48 pixels the kernels cut the same blocks wherever a band begins: the same bits. Others differ by the rounding of a line's last pixels."""
    whole = make_interpreter(chain_model(CHAINS[name], whole=True))
    bands = make_interpreter(chain_model(CHAINS[name]), num_threads=threads)
    assert 0 < workspace_bytes(bands) < WIDTH * HEIGHT * CHANNELS * 4
    for _ in range(2):  # the second time the buffers hold the first's lines
        x = image(rng)
        expected = invoke(whole, x)
        np.testing.assert_allclose(invoke(bands, x), expected, rtol=1e-6 if name == "without padding" else 0, atol=0)


def test_on_every_isa(rng, isa):
    steps = CHAINS["halved on the way"]
    x = image(rng)
    np.testing.assert_array_equal(invoke(make_interpreter(chain_model(steps)), x), invoke(make_interpreter(chain_model(steps, whole=True)), x))


def test_odd_sizes(rng):
    """Bands whose last one is short, for heights around a multiple of every number of lines."""
    for height in range(93, 102):
        steps = [POINTWISE, Step("DepthwiseConv2D", (3, 3), stride=2), POINTWISE, DEPTHWISE]
        x = image(rng, height, 101)
        whole = invoke(make_interpreter(chain_model(steps, height=height, width=101, whole=True)), x)
        np.testing.assert_allclose(invoke(make_interpreter(chain_model(steps, height=height, width=101)), x), whole, rtol=1e-5, atol=1e-5)


def test_a_residual_is_added_line_by_line(rng):
    """Here the image that is added is read twice, so that the chain begins behind it."""
    steps = [POINTWISE, POINTWISE, DEPTHWISE]
    bands = make_interpreter(chain_model(steps, residual=True))
    assert workspace_bytes(bands) < 2 * WIDTH * HEIGHT * CHANNELS * 4
    x = image(rng)
    np.testing.assert_array_equal(invoke(bands, x), invoke(make_interpreter(chain_model(steps, residual=True, whole=True)), x))


def test_other_shapes_afterwards(rng):
    """Small images, several, and large ones again: each time the plan is a new one."""
    steps = CHAINS["expand, depthwise, project"]
    interpreter = make_interpreter(chain_model(steps))
    whole = make_interpreter(chain_model(steps, whole=True))
    for shape in ((1, 8, 9, CHANNELS), (2, HEIGHT, WIDTH, CHANNELS), (1, 200, 64, CHANNELS)):
        x = rng.normal(size=shape).astype(np.float32)
        for resized in (interpreter, whole):
            resized.resize_tensor_input(resized.get_input_details()[0]["index"], shape)
            resized.allocate_tensors()
        np.testing.assert_allclose(invoke(interpreter, x), invoke(whole, x), rtol=1e-5, atol=1e-5)


def test_in_int8_images_stay_whole(rng):
    """Their range is that of the whole image."""
    steps = CHAINS["expand, depthwise, project"]
    interpreter = make_interpreter(chain_model(steps), compute="int8")
    assert workspace_bytes(interpreter) >= WIDTH * HEIGHT * CHANNELS * 4
    x = image(rng)
    np.testing.assert_array_equal(invoke(interpreter, x), invoke(make_interpreter(chain_model(steps, whole=True), compute="int8"), x))


def test_small_images_stay_whole():
    assert workspace_bytes(make_interpreter(chain_model([POINTWISE, DEPTHWISE], height=32, width=32))) == 32 * 32 * CHANNELS * 4
