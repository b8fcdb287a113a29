"""Small correct inputs, which others damage: runs of every kind, data of every form."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import oche
from oche.methods.catalog import METHODS
from oche.training.image_recipes import small
from oche.training.recipes import RECIPES

SPACE = dict(channels=2, cells=3, nodes=2)


class _Killed(BaseException):
    pass


@dataclass(frozen=True)
class Sound:
    """The files that `make` wrote below ``root``."""

    root: Path

    @property
    def search(self) -> Path:
        return self.root / "search"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def language(self) -> Path:
        return self.root / "language"

    @property
    def text(self) -> Path:
        return self.root / "my.txt"

    @property
    def exported(self) -> Path:
        return self.root / "exported.safetensors"

    def halfway(self, kind: str) -> Path:
        """The run ``kind``, as a kill in the middle left it."""
        return self.root / f"{kind}-halfway"


def make(root: Path) -> Sound:
    """Make six runs of a few steps, a text and an exported network, without reports; `oche report` tests those."""
    sound = Sound(root)
    root.mkdir(parents=True, exist_ok=True)
    words = np.random.default_rng(0).integers(20, size=3000)
    sound.text.write_text("\n".join(" ".join(f"w{n}" for n in line) for line in words.reshape(-1, 20)))
    for halfway in (False, True):
        place = sound.halfway if halfway else root.joinpath
        _search(place("search"), halfway)
        _training(place("training"), halfway)
        _language(place("language"), sound.text, halfway)
    from oche.deploy.export import Export, export

    export(sound.training, Export(to="safetensors"), out=sound.exported)
    return sound


def _search(out: Path, halfway: bool) -> None:
    from oche.bilevel.search import Search

    with _dies(Search, 4 if halfway else None):
        oche.search(
            "digits", space=oche.spaces.darts(**SPACE), method=oche.methods.darts(batch=8, epochs=2), limit=60,
            out=out, threads=1,
            checkpoint=0.0, engine="plain",
        )  # fmt: skip


def _training(out: Path, halfway: bool) -> None:
    from oche.training.image_trainer import Training

    with _dies(Training, 4 if halfway else None):
        oche.train(
            "DARTS_V2", "digits", recipe=small(channels=2, cells=3, epochs=2, batch=20), limit=60, out=out, threads=1,
            checkpoint=0.0, engine="plain",
        )  # fmt: skip


def _language(out: Path, text: Path, halfway: bool) -> None:
    from dataclasses import replace

    from oche.training.language_trainer import LanguageTraining

    recipe = replace(RECIPES["recurrent-small"](), width=6, batch=4, steps=8)
    with _dies(LanguageTraining, 5 if halfway else None):
        oche.train("DARTS_RNN_V2", text, recipe=recipe, out=out, threads=1, checkpoint=0.0, engine="plain")


class _dies:
    """In this context, tasks of class ``task`` end at step ``at``, as a kill would end them."""

    def __init__(self, task: type, at: int | None) -> None:
        self.task, self.at, self.step = task, at, task.step

    def __enter__(self) -> None:
        def step(task, at, progress):
            if at == self.at:
                raise _Killed
            self.step(task, at, progress)

        self.task.step = step

    def __exit__(self, kind, error, trace) -> bool:
        self.task.step = self.step
        return kind is _Killed


# --- configurations -------------------------------------------------------------------------------------------------------


def configurations() -> list[tuple[str, str]]:
    """Yield (command, YAML) of complete configurations: every method, every recipe."""
    from oche.core.config.yaml_files import dump_yaml
    from oche.runs.config import SearchConfig, TrainConfig

    searches = [SearchConfig(method=name, search=METHODS[name].make()) for name in METHODS]
    trainings = [TrainConfig(genotype="DARTS_V2", recipe=name, train=RECIPES[name]()) for name in RECIPES]
    return [("search", dump_yaml(c)) for c in searches] + [("train", dump_yaml(c)) for c in trainings]


# --- data -----------------------------------------------------------------------------------------------------------------


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def image(form: str, side: int = 12) -> bytes:
    """A colour image in a format of Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels(side, side, 3)).save(file, form)
    return file.getvalue()


def npz() -> bytes:
    file, y = io.BytesIO(), np.arange(32) % 4
    np.savez(file, x_train=pixels(32, 12, 12, 3), y_train=y, x_test=pixels(12, 12, 12, 3), y_test=y[:12])
    return file.getvalue()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    table = pa.table({"image": [image("PNG") for _ in range(24)], "label": [i % 3 for i in range(24)]})
    pq.write_table(table.replace_schema_metadata({"class_names": '["a", "b", "c"]'}), file)
    return file.getvalue()


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def mnist() -> dict[str, bytes]:
    labels = (np.arange(20) % 10).astype(np.uint8)
    return {
        "train-images-idx3-ubyte": idx(pixels(20, 28, 28)), "train-labels-idx1-ubyte": idx(labels),
        "t10k-images-idx3-ubyte": idx(pixels(10, 28, 28)), "t10k-labels-idx1-ubyte": idx(labels[:10]),
    }  # fmt: skip


def cifar10() -> dict[str, bytes]:
    """The files of CIFAR-10's binary version, with 8 images each."""
    record = b"".join(bytes([i % 10]) + pixels(3072).tobytes() for i in range(8))
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    return {**dict.fromkeys(names, record), "batches.meta.txt": "\n".join(f"class {k}" for k in range(10)).encode()}


def tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for info, data in members:
            info.size = len(data) if info.isfile() else 0
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def wikitext(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def svhn() -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, {"X": pixels(32, 32, 3, 20), "y": (np.arange(20) % 10 + 1).astype(np.uint8)[:, None]})
    return file.getvalue()
