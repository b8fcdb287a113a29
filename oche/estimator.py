"""`ImageClassifier`: a search and a training as one scikit-learn estimator.

Shapes: N images, H × W pixels, C channels, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from oche.api import fit, load, search, train
from oche.core.arguments import short
from oche.core.budget import parse_duration
from oche.core.errors import OcheError
from oche.core.memory import free_memory_or_estimate
from oche.data.readers.python_items import as_array, read_items
from oche.deploy.export import check_out
from oche.runs.checkpoint import save_weights, weights_metadata
from oche.runs.config import SHORTEST
from oche.runs.resolve import next_free_path
from oche.runs.run import Run
from oche.runs.warm_start import METADATA_KEY

_KEY = "oche.estimator"  # of the estimator's own facts in the metadata of a saved file
_SEARCH_SHARE = 0.4  # of the budget
_AT_ONCE = 512  # images that pass the network together


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Finds and trains a network within a budget of time::

        model = oche.ImageClassifier(budget="10m").fit(X, y)
        model.predict(X), model.predict_proba(X), model.score(X, y)

    ``X``: images as an array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W), or a list of images (PIL images, arrays,
    paths), as `oche.search` takes them. Rows of pixels (N, features), as some steps of a pipeline return them, need
    ``image_shape``. ``y``: one label an image, of any kind. All images train; nothing is held out.

    - ``budget``: time for the whole ``fit``, such as "90s", "10m" or "1h30m", or seconds. None: the lengths in
      ``search_options`` and ``train_options``.
    - ``space``, ``method``, ``recipe``: as in `oche.search` and `oche.train`. If all are None, and the budget is a minute or
      more, `oche.fit` plans: it searches if that pays, and else trains the best known cell. Otherwise 40 % of the budget
      search and 60 % train.
    - ``size``: side in pixels to which images are scaled; ``layout``: NHWC or NCHW, the axes of arrays.
    - ``image_shape``: (H, W) or (H, W, C) of rows of pixels.
    - ``random_state``: the seed of all random numbers.
    - ``out``: directory of the runs, the next free one of that name; by default they are removed after ``fit``.
    - ``verbose``: print progress.
    - ``search_options``, ``train_options``: further options of `oche.search` and `oche.train`.

    After ``fit`` it has ``classes_`` (K,), ``network_`` (a `Classifier`), ``genotype_`` (text), ``n_features_in_`` (numbers
    of an image), ``image_shape_``, and ``run_``, the `Run` of the training if ``out`` was given, else None.
    """

    def __init__(
        self,
        budget: str | float | None = "10m",
        *,
        space: Any = None,
        method: Any = None,
        recipe: Any = None,
        size: int | None = None,
        layout: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        device: str = "auto",
        threads: int = 0,
        random_state: Any = 0,
        out: str | Path | None = None,
        verbose: bool = False,
        search_options: Mapping[str, Any] | None = None,
        train_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.budget = budget
        self.space = space
        self.method = method
        self.recipe = recipe
        self.size = size
        self.layout = layout
        self.image_shape = image_shape
        self.device = device
        self.threads = threads
        self.random_state = random_state
        self.out = out
        self.verbose = verbose
        self.search_options = search_options
        self.train_options = train_options

    def fit(self, X: Any, y: Any) -> Self:
        """Search and train on images ``X`` with labels ``y`` (N,). Raises `OcheError` if they cannot be trained on."""
        images = self._images(X)
        if y is None:
            raise OcheError("fit needs labels: this estimator requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_consistent_length(images, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise OcheError(f"y has one class, {self.classes_.tolist()[0]!r}; a classifier needs at least 2 classes")
        names = _names(self.classes_)
        with TemporaryDirectory(prefix="oche-fit-") as folder:
            path = next_free_path(Path(folder) / "run" if self.out is None else Path(self.out))
            run = self._train(_Images(images, codes, names), path)
            self.network_ = load(run)
            self.genotype_ = str(run.genotype)
        self.run_ = None if self.out is None else run
        self._set_shape(images)
        self._order = [self.network_.classes.index(name) for name in names]
        return self

    def _train(self, data: Any, path: Path) -> Run:
        """Return the training of a network for ``data``, in the directory ``path``."""
        chosen = (self.space, self.method, self.recipe, self.search_options, self.train_options)
        if any(value is not None for value in chosen) or self._seconds is None or self._seconds < SHORTEST:
            return self._search_and_train(data, path)
        layout: Any = self.layout
        return fit(
            data, budget=f"{self._seconds:.0f}s", out=path, quiet=not self.verbose, seed=self._seed(), device=self.device,
            threads=self.threads, size=self.size, layout=layout, holdout=0.0, control=False, export=False,
        ).trained()  # fmt: skip

    @property
    def _seconds(self) -> float | None:
        """The budget in seconds, if there is one."""
        return parse_duration(self.budget) if isinstance(self.budget, str) else self.budget and float(self.budget)

    def _search_and_train(self, data: Any, path: Path) -> Run:
        """Search and train on ``data`` within the budget, in the directory ``path``; return the run of the training."""
        lengths: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        if self.budget is not None:
            seconds = self._seconds or 0.0
            shares = (_SEARCH_SHARE, 1 - _SEARCH_SHARE)
            lengths = ({"budget": f"{seconds * shares[0]:.3f}s"}, {"budget": f"{seconds * shares[1]:.3f}s"})
        common: dict[str, Any] = {
            "seed": self._seed(),
            "device": self.device,
            "threads": self.threads,
            "quiet": not self.verbose,
        }
        options = {"size": self.size, "layout": self.layout, "holdout": 0.0, **lengths[0], **common}
        options |= self.search_options or {}
        found = search(data, space=self.space, method=self.method, out=path, **options)
        options = {**lengths[1], **common, **(self.train_options or {})}
        return train(found, recipe="small" if self.recipe is None else self.recipe, **options)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class (N,) of each image, as a label of ``fit``."""
        found = self.predict_proba(X).argmax(1)
        return self.classes_[found]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (N, K), float64, in the order of ``classes_``. Raises `OcheError` for other images."""
        check_is_fitted(self)
        images = self._images(X)
        shape = getattr(images, "shape", (0,))[1:]
        if shape and self.image_shape_ is not None and tuple(shape) != self.image_shape_:
            raise OcheError(
                f"X has images of shape {tuple(shape)}, and {type(self).__name__} is expecting {self.image_shape_} "
                f"({self.n_features_in_} features as input), as in fit"
            )
        found = [self._probabilities(images[k : k + _AT_ONCE]) for k in range(0, len(images), _AT_ONCE)]
        return np.concatenate(found)

    def _probabilities(self, images: Any) -> np.ndarray:
        network = self.network_
        memory = free_memory_or_estimate() // 2
        pairs = _Images(images, np.zeros(len(images), dtype=np.int64), ("",))
        stacked = read_items(pairs, "X", memory, size=network.image, layout=self.layout).images
        pixels = torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
        if pixels.shape[1] == 1 and network.about.channels == 3:
            pixels = pixels.expand(-1, 3, -1, -1)
        found = network.probabilities(pixels.to(next(network.parameters()).device)).double().cpu()
        found = found[:, self._order]
        return (found / found.sum(1, keepdim=True)).numpy()

    # --- files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the fitted classifier to ``path``, as safetensors without pickled objects, and return the path.

        Settings that are objects, such as a `Space` or a recipe, are not kept. `oche.load` reads the file too. Raises
        `OcheError` if it exists, unless ``overwrite``.
        """
        check_is_fitted(self)
        path = Path(path)
        check_out(path, overwrite)
        facts = {
            "params": {name: value for name, value in self.get_params(deep=False).items() if _is_plain(value)},
            "classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str,
            "genotype": self.genotype_, "order": self._order,
            "image_shape": self.image_shape_, "features": getattr(self, "n_features_in_", None),
        }  # fmt: skip
        metadata = {METADATA_KEY: self.network_.about.to_json(), _KEY: json.dumps(facts)}
        save_weights(path, self.network_.net.state_dict(), metadata)
        return path

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """Read what `save` wrote, and return the fitted classifier. Raises `OcheError` for other files."""
        text = weights_metadata(Path(path)).get(_KEY)
        if text is None:
            raise OcheError(
                f"{path} holds no ImageClassifier; give a file that its save wrote, or read it with oche.load"
            )
        try:
            facts = json.loads(text)
            params = facts["params"]
            shape = params.get("image_shape")
            model = cls(**{**params, "image_shape": None if shape is None else tuple(shape)})
            model.classes_ = np.array(facts["classes"], dtype=facts["dtype"])
            model.genotype_, model._order = facts["genotype"], facts["order"]
            model.image_shape_ = None if facts["image_shape"] is None else tuple(facts["image_shape"])
            if facts["features"] is not None:
                model.n_features_in_ = facts["features"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OcheError(f"{path} has damaged facts of its ImageClassifier ({error}); save it again") from error
        model.network_, model.run_ = load(path, device), None
        return model

    # --- images -----------------------------------------------------------------------------------------------------

    def _images(self, X: Any) -> Any:
        """Return ``X`` as a list of images, or as an array (N, H, W) or with channels. Raises `OcheError`."""
        if isinstance(X, list | tuple) and len(X):
            return X
        if not hasattr(X, "shape") or not hasattr(X, "__getitem__") or isinstance(X, type):
            raise OcheError(
                f"X is {short(X)}; give an array (N, H, W), (N, H, W, C) or (N, C, H, W), or a list of images"
            )
        array = as_array(getattr(X, "to_numpy", lambda: X)(), "X")
        if array.ndim == 2 and self.image_shape is not None:
            if array.shape[1] != prod(self.image_shape):
                raise OcheError(
                    f"X has rows of {array.shape[1]} numbers, and image_shape={self.image_shape} {prod(self.image_shape)}"
                )
            array = array.reshape(len(array), *self.image_shape)
        if array.ndim not in (3, 4) or not array.size:
            raise OcheError(
                f"X has shape {array.shape}; give images (N, H, W), (N, H, W, C) or (N, C, H, W), or image_shape=(H, W) for rows "
                "of pixels"
            )
        return array

    def _set_shape(self, images: Any) -> None:
        self.image_shape_ = tuple(images.shape[1:]) if isinstance(images, np.ndarray) else None
        if self.image_shape_ is not None:
            self.n_features_in_ = prod(self.image_shape_)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.non_deterministic = self.budget is not None  # the number of steps depends on the machine's speed
        return tags


@dataclass(frozen=True)
class _Images:
    """Images with the numbers of their classes, item by item; ``classes`` are the names of all classes."""

    images: Any
    codes: np.ndarray
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.images[i], int(self.codes[i])


def _names(classes: np.ndarray) -> tuple[str, ...]:
    """Return a name for each class, all different."""
    names = [str(label).strip() or repr(label) for label in classes.tolist()]
    return tuple(name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names))


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold ``value`` without loss."""
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
