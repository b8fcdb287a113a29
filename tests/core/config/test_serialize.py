"""Configurations as trees: exact round trips, partial trees, and one-line refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from run_configs import Blur, Crop, Identity, Invert, Job, Rates, Sharpen, Unregistered, identity, jobs


@pytest.mark.slow
@given(jobs)
def test_round_trip(job):
    tree = to_dict(job)
    assert from_dict(Job, json.loads(json.dumps(tree))) == job  # a tree is plain enough for JSON
    assert from_dict(Job(name="other", chain=(), second=Blur()), tree) == job  # complete: no default shines through


def test_what_a_tree_looks_like():
    tree = to_dict(Job(second=Crop(5, Blur(0.25)), chain=(Invert(), identity)))
    assert tree["first"] == "identity"
    assert tree["second"] == {"type": "Crop", "side": 5, "inner": {"type": "Blur", "radius": 0.25, "passes": 1}}
    assert tree["chain"] == ["Invert", "identity"]
    assert tree["rates"] == {"start": 0.1, "end": 0.0, "betas": [0.9, 0.99]}
    assert tree["place"] == "here" and tree["sizes"] is None


def test_numbers_and_lists_of_python_callers_become_plain():
    job = Job(count=np.int64(4), share=np.float64(0.1), names=["a"])  # pyright: ignore[reportArgumentType]
    tree = to_dict(job)
    assert type(tree["count"]) is int and type(tree["share"]) is float
    assert from_dict(Job, tree) == Job(count=4, share=0.1, names=("a",))


def test_unregistered_component_is_refused_rather_than_lost():
    for job in (Job(first=Unregistered()), Job(second=Crop(1, Unregistered())), Job(chain=(Unregistered(),))):
        with pytest.raises(OcheError, match="Unregistered is not registered"):
            to_dict(job)


def test_partial_trees_merge_onto_the_default():
    default = Job(count=7, first=Blur(3.0, passes=4), rates=Rates(0.5, 0.1))
    assert from_dict(default, {}) is default
    assert from_dict(default, {"rates": {"start": 0.7}}).rates == Rates(0.7, 0.1)
    assert from_dict(default, {"first": {"passes": 9}}).first == Blur(3.0, 9)
    assert from_dict(default, {"first": {"type": "Blur", "passes": 9}}).first == Blur(3.0, 9)
    assert from_dict(default, {"first": "Blur"}).first == Blur()
    assert from_dict(default, {"first": {"type": "Sharpen"}}).first == Sharpen()
    assert from_dict(default, {"first": "identity"}).first is identity
    assert from_dict(default, {"first": {"type": "identity"}}).first is identity
    assert from_dict(default, {"second": {"type": "Crop", "side": 3}}).second == Crop(3)
    assert from_dict(Job(), {"chain": ["Blur", {"type": "Sharpen", "amounts": [1, 2]}]}).chain == (
        Blur(),
        Sharpen((1, 2)),
    )


@pytest.mark.parametrize(
    ("tree", "name", "want"),
    [
        ({"share": "1e-3"}, "share", 1e-3),  # what PyYAML makes of 1e-3
        ({"share": 1}, "share", 1.0),
        ({"share": ".5"}, "share", 0.5),
        ({"mixed": 3}, "mixed", 3),
        ({"mixed": 0.5}, "mixed", 0.5),
        ({"mixed": "3"}, "mixed", "3"),
        ({"limit": "None"}, "limit", None),
        ({"smooth": "null"}, "smooth", None),
        ({"note": "None"}, "note", "None"),  # text stays text
        ({"mode": "none"}, "mode", "none"),
        ({"other": "none"}, "other", Path("none")),
        ({"names": ["none"]}, "names", ("none",)),
        ({"fast": "true"}, "fast", True),
    ],
)  # fmt: skip
def test_coercion(tree, name, want):
    got = getattr(from_dict(Job(), tree), name)
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"cuont": 3}, ["f.yaml: unknown key 'cuont'; did you mean 'count'?"]),
        ({"zzzzzzz": 3}, ["unknown key 'zzzzzzz'", "known: name, count"]),
        ({5: 3}, ["unknown key 5"]),
        ({"rates": {"begin": 3}}, ["f.yaml: rates: unknown key 'begin'"]),
        ({"count": "five"}, ["f.yaml: count: expected an integer, found 'five'"]),
        ({"count": 5.0}, ["count: expected an integer, found 5.0"]),
        ({"count": True}, ["expected an integer, found true"]),
        ({"count": None}, ["expected an integer, found null"]),
        ({"share": True}, ["expected a number, found true"]),
        ({"share": 10**400}, ["share: expected a number"]),
        ({"fast": 1}, ["expected true or false, found 1"]),
        ({"fast": "yes"}, ["expected true or false, found 'yes'"]),
        ({"limit": "five"}, ["limit: expected an integer or null, found 'five'"]),
        ({"name": 5}, ["name: expected text, found 5; put it in quotes: '5'"]),
        ({"name": None}, ["expected text, found null"]),
        ({"place": 5}, ["place: expected a path, found 5"]),
        ({"mode": "fats"}, ["expected one of fast, slow, none, found 'fats'; did you mean 'fast'?"]),
        ({"level": "1"}, ["level: expected one of 1, 2, found '1'"]),
        ({"level": True}, ["level: expected one of 1, 2, found true"]),
        ({"names": "a"}, ["names: expected a list of values, each text, found 'a'"]),
        ({"names": ["a", 5]}, ["f.yaml: names.1: expected text, found 5"]),
        ({"pair": [1]}, ["pair: expected a list of 2 values", "found [1]"]),
        ({"sizes": [1, "x"]}, ["sizes.1: expected an integer, found 'x'"]),
        ({"mixed": [1]}, ["mixed: expected an integer or a number or text, found [1]"]),
        ({"rates": 3}, ["rates: expected the keys of Rates, found 3"]),
        ({"rates": {"start": 0.0, "end": 1}}, ["f.yaml: rates: end=1.0 exceeds start=0.0; use end <= start"]),
        ({"first": "Blurr"}, ["f.yaml: first: expected one of", "found 'Blurr'; did you mean 'Blur'?"]),
        ({"first": {"type": "Rates"}}, ["first: expected one of", "found 'Rates'"]),
        ({"first": {"type": ["Blur"]}}, ["first: expected one of", "found ['Blur']"]),
        ({"first": {"type": "identity", "radius": 1}}, ["first: unknown key 'radius'; Identity has none"]),
        ({"first": None}, ["first: expected one of", "found null"]),
        ({"first": 3}, ["first: expected one of", "found 3"]),
        ({"second": {"radius": 1}}, ["second: expected a mapping with a type", "Blur, Sharpen, Crop, Invert, identity"]),
        ({"second": "Crop"}, ["second: Crop needs a value for side"]),
        ({"second": {"type": "Crop", "side": 1, "inner": {"type": "Blur", "passes": "x"}}}, ["second.inner.passes: expected"]),
        ({"chain": [{"radius": 1}]}, ["chain.0: expected a mapping with a type"]),
        ({"chain": {"0": {"radius": 1}}}, ["chain: expected a list of values"]),
        (["count"], ["f.yaml: expected keys and values, found ['count']"]),
        ("text", ["f.yaml: expected keys and values"]),
        ({"name": ["x" * 500]}, ["found ['xxx", "..."]),
    ],
)  # fmt: skip
def test_refusals_are_one_line_and_exact(tree, words):
    with pytest.raises(OcheError) as caught:
        from_dict(Job(), tree, "f.yaml")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300 and message.startswith("f.yaml: ")
    for word in words:
        assert word in message


def test_value_of_a_singletons_kind_is_written_by_its_name():
    assert to_dict(Job(first=Identity()))["first"] == "identity"
