"""What the annotations of configurations may be."""

from dataclasses import dataclass, replace

import pytest

from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from run_configs import Filter, Rates, Words


def test_class_without_defaults():
    assert from_dict(Words, {"what": "a"}) == Words("a")
    with pytest.raises(OcheError, match="Words needs a value for what"):
        from_dict(Words, {})


def test_annotation_that_no_tree_can_fill_is_the_programmers_mistake():
    @dataclass(frozen=True)
    class Odd:
        x: complex = 1j

    with pytest.raises(TypeError, match="no way to read"):
        from_dict(Odd(), {"x": 1})
    with pytest.raises(TypeError, match="no form"):
        to_dict(Odd())


def test_only_dataclass_of_an_optional_field_needs_no_type():
    @dataclass(frozen=True)
    class Holder:
        rates: Rates | None = None
        filters: Filter | None = None

    assert from_dict(Holder, {"rates": {"start": 0.3}}).rates == Rates(0.3)
    assert from_dict(replace(Holder(), rates=Rates(0.6)), {"rates": {"end": 0.5}}).rates == Rates(0.6, 0.5)
