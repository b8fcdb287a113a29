"""Tensors of wrong shapes, types and devices handed to a loaded network: one line, or the conversion that is meant."""

import numpy as np
import pytest
import torch
from PIL import Image

import oche
import small_runs
from oche.core.errors import OcheError
from oche.training.image_recipes import small

CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A network of four classes of colour images of 12 x 12."""
    root = tmp_path_factory.mktemp("colour")
    recipe = small(channels=4, cells=2, reductions=(1,), steps=2, batch=8, auxiliary=0.0)
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        return oche.load(oche.train(CELLS, small_runs.npz(root / "x.npz"), recipe=recipe, out=root / "t"))


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    root = tmp_path_factory.mktemp("grey")
    recipe = small(channels=4, cells=2, reductions=(1,), steps=2, batch=8, auxiliary=0.0)
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        data = small_runs.npz(root / "x.npz", channels=1)
        return oche.load(oche.train(CELLS, data, recipe=recipe, out=root / "t"))


@pytest.fixture(scope="module")
def pixels():
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (2, 3, 12, 12), generator=g, dtype=torch.uint8)


COLOUR = {
    (3, 12, 12): "write images[None] for a batch of one image",
    (2, 12, 12, 3): "the channels are last, write images.permute(0, 3, 1, 2)",
    (12, 12, 3): "one image with its channels last, write images.permute(2, 0, 1)[None]",
    (2, 1, 12, 12): "they have 1 channels, and it was trained on 3; convert them first",
    (2, 4, 12, 12): "they have 4 channels, and it was trained on 3; convert them first",
    (2, 12, 12, 4): "they have 4 channels, and it was trained on 3; convert them first",
    (2, 12, 12): "images are (2, 12, 12); the network takes (B, 3, 12x12)",
    (12, 12): "images are (12, 12); the network takes (B, 3, 12x12)",
    (2, 3, 12, 12, 1): "images are (2, 3, 12, 12, 1); the network takes (B, 3, 12x12)",
    (432,): "images are (432,); the network takes (B, 3, 12x12)",
    (): "images are (); the network takes (B, 3, 12x12)",
    (2, 3, 7, 12): "the network needs 8 pixels a side",
}
GREY = {
    (2, 12, 12): "grey images without an axis for channels, write images[:, None]",
    (12, 12): "one grey image, write images[None, None]",
    (2, 12, 12, 1): "the channels are last, write images.permute(0, 3, 1, 2)",
    (1, 12, 12): "write images[None] for a batch of one image",
    (2, 3, 12, 12): "they have 3 channels, and it was trained on 1",
}


def refused(call, *args) -> str:
    with pytest.raises(OcheError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("shapes", "kind"), [(COLOUR, "colour"), (GREY, "grey")])
def test_wrong_shapes_are_explained_by_every_call(shapes, kind, request):
    net = request.getfixturevalue(kind)
    for shape, says in shapes.items():
        assert says in refused(net, torch.zeros(shape)), shape
        assert says in refused(net.prepare, torch.zeros(shape, dtype=torch.uint8)), shape
        assert says in refused(net.probabilities, torch.zeros(shape, dtype=torch.uint8)), shape
        assert says in refused(net.probabilities, np.zeros(shape, np.uint8)), shape


def test_floats_of_another_precision_are_converted(colour, pixels):
    x = colour.prepare(pixels)
    expected = colour(x)
    assert torch.equal(colour(x.double()), expected) and expected.dtype == torch.float32
    torch.testing.assert_close(colour(x.half()), expected, rtol=0, atol=1e-2)
    torch.testing.assert_close(colour(x.bfloat16()), expected, rtol=0, atol=1e-1)


def test_a_network_in_float64_takes_what_it_prepared(colour, pixels):
    import copy

    net = copy.deepcopy(colour).double()
    torch.testing.assert_close(net.probabilities(pixels), colour.probabilities(pixels).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64, torch.bool])
def test_pixels_are_not_taken_for_normalised_floats(dtype, colour, pixels):
    says = refused(colour, pixels.to(dtype))
    assert f"images are {dtype}, and the network takes normalised floats; write net(net.prepare(images))" == says


def test_arrays_of_pixels_are_converted(colour, pixels):
    expected = colour.probabilities(pixels)
    array = pixels.numpy()
    assert torch.equal(colour.probabilities(array), expected)
    backwards = np.ascontiguousarray(array[::-1])[::-1]  # negative strides, which torch refuses
    assert torch.equal(colour.probabilities(backwards), expected)
    fixed = array.copy()
    fixed.flags.writeable = False
    assert torch.equal(colour.prepare(fixed), colour.prepare(pixels))


WRONG = {
    "a list": ([1.0, 2.0], "found a list"),
    "a list of tensors": ([torch.zeros(3, 12, 12)], "found a list"),
    "an array of floats": (np.zeros((2, 3, 12, 12), np.float32), "found a numpy array of float32"),
    "an array of text": (np.array(["a"]), "found a numpy array of <U1"),
    "a picture": (Image.new("RGB", (12, 12)), "found a PIL image"),
    "nothing": (None, "found None"),
    "a number": (3, "found an int"),
    "a path": ("x.png", "found a str"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_tensor_is_told(what, colour):
    value, says = WRONG[what]
    said = refused(colour, value)
    assert says in said and "net.probabilities(images)" in said
    if what != "an array of floats":
        said = refused(colour.prepare, value)
        assert says in said and ("torch.stack(images)" in said) == isinstance(value, list)
        assert says in refused(colour.probabilities, value)


def test_another_device(colour, pixels):
    """The device "meta" stands for a GPU."""
    said = refused(colour, torch.zeros(2, 3, 12, 12, device="meta"))
    assert said == "images are on meta and the network on cpu; write images.to('cpu'), or net.to('meta')"


def test_feature_maps_are_asked_for_with_the_same_care(colour, pixels):
    backbone = colour.features()
    x = colour.prepare(pixels)
    for one, other in zip(backbone(x.double()), backbone(x), strict=True):
        assert torch.equal(one, other)
    for wrong, found in [
        (torch.zeros(3, 12, 12), "torch.float32 (3, 12, 12)"), (torch.zeros(2, 12, 12, 3), "torch.float32 (2, 12, 12, 3)"),
        (torch.zeros(2, 1, 12, 12), "torch.float32 (2, 1, 12, 12)"), (pixels, "torch.uint8 (2, 3, 12, 12)"),
        (pixels.numpy(), "ndarray"), ([x], "list"),
    ]:  # fmt: skip
        assert refused(backbone, wrong) == f"a backbone takes a tensor of floats (B, 3, H, W), found {found}"
    assert "on meta and the backbone on cpu" in refused(backbone, torch.zeros(2, 3, 12, 12, device="meta"))
