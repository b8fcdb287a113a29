"""Descriptions of networks: written and read without loss, those of earlier versions too."""

import json

import pytest

from exports import CELLS
from oche.core.errors import OcheError
from oche.data.pixel_range import UNIT, PixelRange
from oche.deploy.description import ModelDescription
from oche.training.image_recipes import small

SMALL = small(channels=2, cells=2, reductions=(1,), auxiliary=0.0)


def description(**fields) -> ModelDescription:
    return ModelDescription(
        **{
            "genotype": CELLS,
            "recipe": SMALL,
            "classes": ("a", "ü"),
            "channels": 1,
            "image": (8, 9),
            "mean": (1 / 3,),
            "std": (0.1,),
        }
        | fields
    )


@pytest.mark.parametrize("pixels", [None, UNIT, PixelRange(-1024, 3071), PixelRange(0.1, 1e30, "floats")])
def test_they_are_read_as_they_were_written(pixels):
    about = description(pixels=pixels)
    assert ModelDescription.from_json(about.to_json(), "x") == about


def test_those_of_earlier_versions_have_no_range():
    tree = json.loads(description().to_json())
    del tree["pixels"]
    assert ModelDescription.from_json(json.dumps(tree), "x").pixels is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pixels": {"low": 3, "high": 3}}, "from 3 to 3 is none"),
        ({"pixels": {"low": "a"}}, "low"),
        ({"pixels": {"kind": "colours"}}, "kind"),
        ({"mean": [0.5, 0.5]}, "do not normalise images of 1 channels"),
    ],
)
def test_what_does_not_fit_is_named(change, says):
    tree = json.loads(description(pixels=UNIT).to_json()) | change
    with pytest.raises(OcheError, match=says):
        ModelDescription.from_json(json.dumps(tree), "x.onnx")


def test_text_that_is_none():
    with pytest.raises(OcheError, match=r"x\.onnx has no description of its model that can be read"):
        ModelDescription.from_json("{", "x.onnx")
