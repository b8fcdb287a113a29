"""oche.ImageClassifier as a scikit-learn estimator: fit, predict, labels of any kind, files, pipelines, conventions."""

import json
import pickle
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import oche
import small_runs
from oche.core.errors import OcheError
from oche.estimator import ImageClassifier
from oche.runs.checkpoint import load_weights, save_weights
from python_data import arrays

X, Y = arrays(n=40, side=10, classes=3)
NAMES = np.array(["cat", "ant", "bee"])
TINY = dict(
    budget=None, space=oche.spaces.darts(channels=2, cells=3, nodes=1), recipe=small_runs.recipe(),
    search_options={"steps": 1, "batch": 8},
)  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        return ImageClassifier(**TINY).fit(X, NAMES[Y])


@pytest.fixture(autouse=True)
def _quick(quick):
    pass


# --- fit and predict


def test_fit_leaves_what_scikit_learn_expects(fitted):
    assert fitted.classes_.tolist() == ["ant", "bee", "cat"] and fitted.n_features_in_ == 300
    assert fitted.image_shape_ == (10, 10, 3) and fitted.run_ is None and "Genotype" in fitted.genotype_
    assert isinstance(fitted.network_, torch.nn.Module) and sorted(fitted.network_.classes) == ["ant", "bee", "cat"]


def test_predictions_are_those_of_the_network(fitted):
    p = fitted.predict_proba(X)
    wanted = fitted.network_.probabilities(torch.from_numpy(X).permute(0, 3, 1, 2)).numpy()
    order = [fitted.network_.classes.index(name) for name in ("ant", "bee", "cat")]
    assert p.shape == (40, 3) and p.dtype == np.float64 and np.allclose(p, wanted[:, order], atol=1e-6)
    assert np.allclose(p.sum(1), 1, atol=1e-12)
    assert (fitted.predict(X) == fitted.classes_[p.argmax(1)]).all()
    assert fitted.score(X, NAMES[Y]) == (fitted.predict(X) == NAMES[Y]).mean()


def test_forms_of_images_give_the_same_predictions(fitted):
    wanted = fitted.predict_proba(X)
    for given in (torch.from_numpy(X), list(X), [Image.fromarray(x) for x in X], X.astype(np.float32) / 255):
        assert np.allclose(fitted.predict_proba(given), wanted, atol=1e-12)


@pytest.mark.slow
def test_an_estimator_learns_and_repeats():
    bright = np.zeros((40, 8, 8), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None] % 2 * 200
    bright += np.random.default_rng(0).integers(0, 50, bright.shape, dtype=np.uint8)
    settings = {**TINY, "recipe": small_runs.recipe(steps=30, batch=20)}
    one, two = (ImageClassifier(**settings).fit(bright, np.arange(40) % 2 == 1) for _ in range(2))
    assert one.score(bright, np.arange(40) % 2 == 1) == 1.0 and one.classes_.tolist() == [False, True]
    assert (one.predict_proba(bright) == two.predict_proba(bright)).all()


@pytest.mark.parametrize(
    "labels",
    [np.array([-1, 1]), np.array([0.0, 7.0]), np.array(["", "nan"]), np.array(["b", "a"], dtype=object)],
    ids=["signs", "floats", "odd text", "objects"],
)
def test_labels_of_any_kind(labels):
    y = labels[np.arange(16) % 2]
    model = ImageClassifier(**TINY).fit(X[:16], y)
    assert model.classes_.tolist() == sorted(labels.tolist()) and set(model.predict(X[:16])) <= set(labels.tolist())


@pytest.mark.slow
def test_a_kept_run(tmp_path):
    out = tmp_path / "kept"
    model = ImageClassifier(**TINY, out=out).fit(X, Y)
    assert model.run_.path == out / "train" and model.run_.summary["steps"] == 2
    assert oche.Run.open(out).config.data == str(out / "data" / "Images.npz")
    assert ImageClassifier(**TINY, out=out).fit(X, Y).run_.path == tmp_path / "kept-2" / "train"


def test_a_budget_alone_is_planned_by_a_fit(monkeypatch):
    """Who chooses a space, a method or a recipe gets a search and a training; a minute is the shortest fit."""
    asked = []
    monkeypatch.setattr("oche.estimator.fit", lambda data, **options: asked.append(options) or oche.Run(Path("x")))
    monkeypatch.setattr(oche.Run, "trained", lambda self: self)
    monkeypatch.setattr(ImageClassifier, "_search_and_train", lambda self, data, path: asked.append(None))
    ImageClassifier("10m", random_state=5, size=32)._train(None, Path("x"))
    assert asked.pop()["budget"] == "600s"
    ImageClassifier(90, random_state=5, size=32)._train(None, Path("x"))
    options = asked.pop()
    assert options["budget"] == "90s" and options["holdout"] == 0 and not options["control"] and options["size"] == 32
    for other in (
        dict(budget=59),
        dict(method="gdas"),
        dict(recipe="small"),
        dict(budget=None),
        dict(search_options={}),
    ):
        ImageClassifier(**{"budget": "10m", **other})._train(None, Path("x"))
        assert asked.pop() is None


def test_the_budget_is_divided(monkeypatch):
    asked = []
    monkeypatch.setattr("oche.estimator.search", lambda data, **options: asked.append(options) or "found")
    monkeypatch.setattr("oche.estimator.train", lambda found, **options: asked.append(options) or found)
    for budget in ("10m", 600):
        ImageClassifier(budget, random_state=5)._search_and_train(None, Path("x"))
        assert [options["budget"] for options in asked] == ["240.000s", "360.000s"]
        assert all(options["seed"] == 5 and options["quiet"] for options in asked)
        asked.clear()


# --- what is refused


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X.reshape(40, -1), Y, r"X has shape \(40, 300\); give images \(N, H, W\).* or image_shape"),
        (X[0, 0], Y, r"X has shape \(10, 3\)"),
        (X[:0], Y[:0], "X has shape"),
        (None, Y, "X is None; give an array"),
        ("digits", Y, "X is text 'digits'"),
        (X.astype(complex), Y, "X is ndarray of shape .* complex128; give"),
        (X, None, "requires y to be passed, but the target y is None"),
        (X, np.zeros(40), "y has one class, 0.0; a classifier needs at least 2 classes"),
        (X, np.linspace(0, 1, 40), "Unknown label type: continuous"),
        (X, Y[:5], "inconsistent numbers of samples"),
        (np.full(X.shape, np.nan), Y, r"data: x\[\d+\] has pixels that are nan"),
        (X[:, :4, :4].repeat(2, 3), Y, "neither|pixels"),
    ],
)
def test_what_cannot_be_fitted_is_a_value_error(x, y, words):
    with pytest.raises(ValueError, match=words):
        ImageClassifier(**TINY).fit(x, y)


def test_settings_are_checked_in_fit_and_not_before():
    for settings, words in [
        ({"budget": "soon"}, "'soon' is not a length of time"),
        ({"method": "dart"}, "did you mean 'darts'"),
        ({"recipe": "smal"}, "did you mean 'small'"),
        ({"size": "big"}, "size"),
        ({"search_options": {"epoch": 1}}, "no argument 'epoch'"),
    ]:
        model = ImageClassifier(**{**TINY, **settings})
        with pytest.raises(OcheError, match=words):
            model.fit(X, Y)


def test_prediction_needs_a_fit_and_images_of_the_same_shape(fitted, tmp_path):
    for call in (
        lambda m: m.predict(X),
        lambda m: m.predict_proba(X),
        lambda m: m.score(X, Y),
        lambda m: m.save(tmp_path / "x"),
    ):
        with pytest.raises(NotFittedError):
            call(ImageClassifier())
    with pytest.raises(
        OcheError, match=r"X has images of shape \(10, 10\), and ImageClassifier is expecting \(10, 10, 3\)"
    ):
        fitted.predict(X[..., 0])
    with pytest.raises(OcheError, match=r"\(9, 9, 3\), and ImageClassifier is expecting"):
        fitted.predict(X[:, :9, :9])
    with pytest.raises(OcheError, match="the network takes uint8 images, or floats in"):
        fitted.predict(X.astype(np.float32) * 100)


# --- files


def test_a_saved_classifier_predicts_the_same(fitted, tmp_path):
    path = fitted.save(tmp_path / "model.safetensors")
    again = ImageClassifier.load(path)
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all() and (again.predict(X) == fitted.predict(X)).all()
    assert again.classes_.dtype == fitted.classes_.dtype and again.n_features_in_ == 300 and again.run_ is None
    assert again.get_params()["search_options"] == TINY["search_options"] and again.space is None
    assert oche.load(path).classes == fitted.network_.classes  # an exported file, too
    assert b"pickle" not in path.read_bytes()
    with pytest.raises(OcheError, match="exists already"):
        fitted.save(path)
    assert fitted.save(path, overwrite=True) == path


def test_files_that_hold_no_classifier(fitted, tmp_path):
    with pytest.raises(OcheError, match=r"no weights at .*none\.safetensors"):
        ImageClassifier.load(tmp_path / "none.safetensors")
    save_weights(tmp_path / "weights.safetensors", fitted.network_.net.state_dict(), {})
    with pytest.raises(OcheError, match="holds no ImageClassifier; give a file that its save wrote"):
        ImageClassifier.load(tmp_path / "weights.safetensors")
    path = fitted.save(tmp_path / "m.safetensors")
    for damaged in ("{", json.dumps({"params": 3}), json.dumps({"params": {}, "classes": "ab"})):
        save_weights(path, load_weights(path), {"oche.estimator": damaged})
        with pytest.raises(OcheError, match="damaged facts of its ImageClassifier"):
            ImageClassifier.load(path)


@pytest.mark.parametrize("kind", ["int64", "float64", "bool", "<U5", "object"])
def test_classes_keep_their_type_in_a_file(fitted, tmp_path, kind):
    model = pickle.loads(pickle.dumps(fitted))  # a process of cross validation does this
    model.classes_ = np.array([0, 1, 2]).astype(kind) if kind != "object" else np.array(["a", "b", "c"], dtype=object)
    again = ImageClassifier.load(model.save(tmp_path / "m.safetensors"))
    assert again.classes_.dtype == model.classes_.dtype and again.classes_.tolist() == model.classes_.tolist()


# --- with the rest of scikit-learn


@pytest.mark.slow
def test_cross_validation():
    scores = cross_val_score(ImageClassifier(**TINY), X, NAMES[Y], cv=2)
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.slow
def test_a_pipeline_of_rows():
    half = FunctionTransformer(lambda rows: rows // 2)
    pipeline = make_pipeline(half, ImageClassifier(**TINY, image_shape=(10, 10, 3))).fit(X.reshape(40, -1), Y)
    assert pipeline.predict(X.reshape(40, -1)).shape == (40,) and pipeline[-1].n_features_in_ == 300
    direct = ImageClassifier(**TINY).fit(X // 2, Y)
    assert (pipeline.predict_proba(X.reshape(40, -1)) == direct.predict_proba(X // 2)).all()
    with pytest.raises(OcheError, match=r"X has rows of 299 numbers, and image_shape=\(10, 10, 3\) 300"):
        pipeline[-1].predict(X.reshape(40, -1)[:, 1:])


def test_parameters_are_kept_as_they_are_given():
    given = {name: object() for name in signature(ImageClassifier).parameters}
    model = ImageClassifier(**given)
    assert {name: value for name, value in vars(model).items()} == given == model.get_params(deep=False)
    model.set_params(budget="3m", size=32)
    assert (model.budget, model.size) == ("3m", 32)
    with pytest.raises(ValueError, match="Invalid parameter 'time'"):
        model.set_params(time=3)
    plain = ImageClassifier("2m", random_state=3)
    assert (
        clone(plain).get_params() == plain.get_params()
        and repr(plain) == "ImageClassifier(budget='2m', random_state=3)"
    )


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable, estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init, estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance, estimator_checks.check_set_params,
        estimator_checks.check_estimator_tags_renamed, estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)  # fmt: skip
def test_checks_of_scikit_learn_that_need_no_rows_of_numbers(check):
    check("ImageClassifier", ImageClassifier())


def test_tags():
    tags = ImageClassifier().__sklearn_tags__()
    assert tags.estimator_type == "classifier" and tags.input_tags.three_d_array and not tags.input_tags.two_d_array
    assert tags.non_deterministic and not ImageClassifier(None).__sklearn_tags__().non_deterministic
    assert ImageClassifier(image_shape=(8, 8)).__sklearn_tags__().input_tags.two_d_array
