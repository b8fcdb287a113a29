"""Bad input to what uses trained networks: one line that says what is wrong, exit code 2, and nothing written or changed."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import oche
import small_runs
from exports import CELLS, oracle
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.data import load as load_data
from oche.deploy.export import Export, export
from oche.runs.checkpoint import load_weights, save_weights, weights_metadata
from oche.training.image_recipes import small
from oche.training.image_trainer import Training
from oche.training.loop import Interrupted

RGB_CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)
SHORT_RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=2, batch=8, auxiliary=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An exported training of four classes of images of 12 x 12, its data, and a folder of pictures of two sizes."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        run = oche.train(RGB_CELLS, small_runs.npz(root / "x.npz"), recipe=small(**SHORT_RECIPE), out=root / "t")
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
    "an unknown operation": (dict(genotype=RGB_CELLS.replace("sep_conv_3x3", "sep_conv_3x4")), "did you mean 'sep_conv_3x3'"),
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
    "cut short": (lambda raw: raw[:900], "not an intact safetensors file"),
    "empty": (lambda raw: b"", "not an intact safetensors file"),
    "another kind of file": (lambda raw: b"PK\x03\x04" * 200, "not an intact safetensors file"),
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
    small_runs.npz(here / "other.npz", classes=6)
    error = refused("evaluate t --data other.npz --device cpu", capsys)
    assert "other has the classes 4, 5, and t was trained on 0, 1, 2, 3" in error


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
            oche.train(RGB_CELLS, "x.npz", recipe=small(**SHORT_RECIPE), out="r", checkpoint=0.0)
    kept = everything(here / "r")
    small_runs.npz(here / "x.npz", **now)
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


RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=24, batch=32, auxiliary=0.4, drop_path=0.2)


# --- oche.load


@pytest.mark.slow
def test_a_loaded_network_is_the_trained_one(trained, digits):
    net, data = oche.load(trained.path), load_data("digits", limit=300)
    assert isinstance(net, nn.Module) and not any(m.training for m in net.modules())
    assert (net.classes, net.mean, net.std, net.image) == (data.classes, data.mean, data.std, (8, 8))
    images, labels = digits
    assert (net(net.prepare(images)).argmax(1) == labels).float().mean().item() == pytest.approx(
        trained.summary["test_acc"], abs=1e-6
    )
    torch.testing.assert_close(net.probabilities(images).double(), oracle(trained, images), rtol=0, atol=1e-5)
    assert trained.config.train.auxiliary and not [n for n, _ in net.named_parameters() if "auxiliary" in n]
    assert sum(p.numel() for p in net.parameters()) == trained.summary["parameters"]


def test_a_copy_for_inference_has_fewer_batchnorms_and_the_same_outputs(trained):
    net = oche.load(trained)
    fast, x = net.for_inference(), torch.randn(3, 1, 8, 8)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (net, fast)]
    assert norms[1] < norms[0] and not any(w.requires_grad for w in fast.parameters())
    assert torch.allclose(fast(x), net(x), atol=1e-5) and fast.classes == net.classes
    assert all(w.requires_grad for w in net.parameters())  # the network itself stays as it was


def test_a_run_from_before_its_moments_were_kept(copied, trained):
    facts = json.loads((copied / "space.json").read_text())
    del facts["mean"], facts["std"]
    (copied / "space.json").write_text(json.dumps(facts))
    assert oche.load(copied).mean == oche.load(trained).mean


def test_a_loaded_network_says_what_images_it_takes(trained, digits):
    net = oche.load(trained)
    for images, says in [
        (digits[0], "net.prepare"),
        (torch.zeros(2, 3, 8, 8), r"takes \(B, 1, 8x8\)"),
        (torch.zeros(1, 8, 8), r"takes \(B, 1, 8x8\)"),
        (torch.zeros(2, 1, 8, 4), "8 pixels a side"),
    ]:
        with pytest.raises(OcheError, match=says):
            net(images)
    assert net(torch.zeros(2, 1, 13, 9)).shape == (2, 10)  # it pools


def test_a_network_with_an_mlp_head_takes_its_own_size_only(tmp_path, quick):
    recipe = small(**{**RECIPE, "steps": 1, "auxiliary": 0.0, "head": (6,)})
    run = oche.train(CELLS, "digits", recipe=recipe, limit=40, out=tmp_path / "mlp")
    with pytest.raises(OcheError, match="MLP head of this network takes 8x8 only"):
        oche.load(run)(torch.zeros(1, 1, 16, 16))
    with pytest.raises(OcheError, match="MLP head of this network takes 8x8 only"):
        export(run, Export(to="torch-export", size=16))
    assert not (run.path / "export").exists()


def test_only_a_finished_training_has_a_network(searched, copied):
    with pytest.raises(OcheError, match="is a search run, which leaves no final network; train first: oche train"):
        oche.load(searched)
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    with pytest.raises(OcheError, match=r"not complete \(interrupted\); go on with: oche resume"):
        oche.load(copied)
    with pytest.raises(OcheError, match="is not a run directory"):
        oche.load(copied.parent)
    with pytest.raises(OcheError, match="weights without their network; give the directory of the run"):
        oche.load(copied / "weights.safetensors")
    with pytest.raises(OcheError, match="no weights at"):
        oche.load(copied / "none.safetensors")


def test_a_search_with_its_training_names_it(searched, copied, tmp_path):
    shutil.copytree(searched.path, tmp_path / "s")
    shutil.copytree(copied, tmp_path / "s" / "train")
    with pytest.raises(OcheError, match=f"give the training in it, {tmp_path / 's' / 'train'}"):
        oche.load(tmp_path / "s")


def change(run: Path, edit, genotype: str | None = None) -> None:
    """Writes the weights of ``run`` anew, changed, with a sound hash."""
    file = run / "weights.safetensors"
    tensors, metadata = load_weights(file), weights_metadata(file)
    save_weights(file, edit(tensors), metadata if genotype is None else {"genotype": genotype})


def wider(tensors):
    return {k: torch.cat([t, t]) if k.startswith("head.") else t for k, t in tensors.items()}


def without(tensors):
    return {k: t for k, t in tensors.items() if k != "stem.0.weight"}


def test_parts_that_do_not_belong_together(copied):
    file = copied / "weights.safetensors"
    sound = file.read_bytes()
    change(copied, wider)
    with pytest.raises(OcheError, match="classifies 20 classes, and its run names 10"):
        oche.load(copied)
    file.write_bytes(sound)
    change(copied, without)
    with pytest.raises(OcheError, match=r"stem.0.weight is nothing in the file, \(12, 1, 3, 3\) in the network"):
        oche.load(copied)
    file.write_bytes(sound[:-40] + bytes(40))
    with pytest.raises(OcheError, match="is damaged: its weights do not match the hash"):
        oche.load(copied)
    file.write_bytes(sound[:1000])
    with pytest.raises(OcheError, match="not an intact safetensors file"):
        export(copied, Export(to="safetensors"))
    file.write_bytes(sound)
    other = CELLS.replace("avg_pool_3x3", "max_pool_3x3")  # which would load without a word
    (copied / "genotype.txt").write_text(str(oche.Genotype.parse(other)))
    with pytest.raises(OcheError, match="belongs to another genotype"):
        oche.load(copied)
    assert not (copied / "export").exists()


def test_an_operation_that_does_not_exist(copied):
    other = str(oche.Genotype.parse(CELLS.replace("sep_conv_3x3", "sep_conv_3x4")))
    (copied / "genotype.txt").write_text(other)
    change(copied, dict, other)
    with pytest.raises(
        OcheError, match="cannot be built: unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'"
    ):
        oche.load(copied)


def test_data_that_have_become_others(tmp_path, quick):
    file = small_runs.npz(tmp_path / "x.npz", channels=1)
    run = oche.train(CELLS, file, recipe=small(**{**RECIPE, "steps": 1, "batch": 8}), out=tmp_path / "t")
    small_runs.npz(file, channels=3)
    with pytest.raises(OcheError, match="was begun with in_channels 1, and x has 3 now"):
        export(run, Export(to="torch-export"))
    file.unlink()
    gone = f"the data of {run.path} are gone from {file}; name their new place: oche export {run.path} --data PLACE"
    with pytest.raises(OcheError, match=re.escape(gone)):
        export(run, Export(to="torch-export"))
    assert not (run.path / "export").exists()
    done = export(run, Export(to="safetensors"))  # weights alone need no data
    image = torch.zeros(1, 1, 12, 12, dtype=torch.uint8)
    torch.testing.assert_close(*(oche.load(x).probabilities(image) for x in (run, done.path)))
