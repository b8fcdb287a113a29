"""Bad input to what uses trained networks: one line that says what is wrong, exit code 2, and nothing written or changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oche
import runs
from oche.cli import main as cli
from oche.deploy.export import Export, export
from oche.runs.checkpoint import load_weights, save_weights, weights_metadata
from oche.training.image_recipes import small
from oche.training.image_trainer import Training
from oche.training.loop import Interrupted

CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)
RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=2, batch=8, auxiliary=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An exported training of four classes of images of 12 x 12, its data, and a folder of pictures of two sizes."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        runs.no_report(patch)
        run = oche.train(CELLS, runs.npz(root / "x.npz"), recipe=small(**RECIPE), out=root / "t")
    export(run, Export(to="safetensors"), out=root / "x.safetensors", card=False)
    (root / "pictures").mkdir()
    for i, side in enumerate((12, 12, 20)):
        pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{i}.png")
    return root


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it all, to spoil, as the current directory."""
    shutil.copytree(made, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def refused(words: str, capsys) -> str:
    """What is said of a command that must be refused, and must leave all files as they are."""
    before = everything(Path())
    assert cli.main(words.split()) == 2
    assert everything(Path()) == before
    error = capsys.readouterr().err
    assert error.startswith("oche: ") and error.count("\n") == 1
    return error


def rewrite(file: Path, **changes) -> None:
    """Writes an exported file anew with another description and a sound hash."""
    tensors, about = load_weights(file), json.loads(weights_metadata(file)["oche.model"])
    about = {k: v for k, v in {**about, **changes}.items() if v is not None}
    save_weights(file, tensors, {"oche.model": json.dumps(about)})


DESCRIPTIONS = {
    "an unknown operation": (dict(genotype=CELLS.replace("sep_conv_3x3", "sep_conv_3x4")), "did you mean 'sep_conv_3x3'"),
    "no genotype": (dict(genotype="nonsense"), "not a genotype: 'nonsense'"),
    "too few classes": (dict(classes=["a", "b"]), "classifies 4 classes, and its run names 2"),
    "another number of channels": (dict(channels=1, mean=[0.5], std=[0.5]), "stem.0.weight is (12, 3, 3, 3) in the file"),
    "means of another number": (dict(mean=[0.5]), "do not normalise images of 3 channels"),
    "a deviation of nothing": (dict(std=[0.5, 0.0, 0.5]), "deviations above 0"),
    "images too small": (dict(image=[4, 4]), "images of at least 8 x 8"),
    "no recipe": (dict(recipe=None), "needs a value for recipe"),
}  # fmt: skip


@pytest.mark.parametrize("what", DESCRIPTIONS)
def test_a_file_whose_description_does_not_fit(what, here, capsys):
    changes, says = DESCRIPTIONS[what]
    rewrite(here / "x.safetensors", **changes)
    error = refused("predict x.safetensors pictures", capsys)
    assert says in error and "x.safetensors" in error


BYTES = {
    "cut short": (lambda raw: raw[:900], "no sound safetensors file"),
    "empty": (lambda raw: b"", "no sound safetensors file"),
    "another kind of file": (lambda raw: b"PK\x03\x04" * 200, "no sound safetensors file"),
    "one weight changed": (lambda raw: raw[:-9] + bytes([raw[-9] ^ 64]) + raw[-8:], "do not match the hash"),
}


@pytest.mark.parametrize("what", BYTES)
@pytest.mark.parametrize("file", ["x.safetensors", "t/weights.safetensors"])
def test_a_damaged_file_of_weights(what, file, here, capsys):
    damage, says = BYTES[what]
    (here / file).write_bytes(damage((here / file).read_bytes()))
    for words in (f"predict {file.removesuffix('/weights.safetensors')} pictures", "export t --to safetensors"):
        if words.startswith("predict") or file.startswith("t/"):
            error = refused(words, capsys)
            assert says in error and file in error


def test_data_of_other_classes(here, capsys):
    runs.npz(here / "other.npz", classes=3)
    assert "give data with the same classes" in refused("evaluate t --data other.npz --device cpu", capsys)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (dict(classes=3), "was begun with classes ['0', '1', '2', '3'], and x has ['0', '1', '2'] now"),
        (dict(channels=1), "was begun with in_channels 3, and x has 1 now"),
        (dict(side=16), "was begun with image [12, 12], and x has [16, 16] now"),
    ],
)
def test_a_checkpoint_of_other_data(now, says, here, monkeypatch, capsys, quick):
    """The run, its checkpoint among it, is kept, and goes on once the data are back."""
    done, data = Training.step, (here / "x.npz").read_bytes()

    def stopped(self, at, progress):
        if at == 1:
            raise Interrupted
        done(self, at, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", stopped)
        with pytest.raises(Interrupted):
            oche.train(CELLS, "x.npz", recipe=small(**RECIPE), out="r", checkpoint=0.0)
    kept = everything(here / "r")
    runs.npz(here / "x.npz", **now)
    capsys.readouterr()
    assert cli.main(["resume", "r"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    after = everything(here / "r")
    assert {k for k in kept if kept[k] != after.get(k)} <= {"status.json"} and kept.keys() <= after.keys()
    (here / "x.npz").write_bytes(data)
    assert cli.main(["resume", "r", "--quiet"]) == 0 and oche.Run.open("r").state == "complete"


def test_images_of_another_size(here, capsys):
    assert cli.main(["predict", "t", "pictures"]) == 0
    assert "1 of 3 images are not 12x12, as trained: scaled and cut to their centre" in capsys.readouterr().out
    rows = (here / "predictions.csv").read_text()
    assert rows.count("\n") == 4
    assert "predictions.csv exists already" in refused("predict t pictures", capsys)
    assert "8 pixels a side" in refused("export t --to torch-export --size 7", capsys)
    assert (here / "predictions.csv").read_text() == rows
