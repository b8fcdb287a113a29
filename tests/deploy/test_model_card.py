"""The model card beside an exported network: what it says is so, its snippets run, and nobody's own text is replaced."""

import json
import re
import shutil
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
import torch

import oche
import small_runs
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.data import load as load_data
from oche.deploy.export import Export, export
from oche.training.image_recipes import small

pytestmark = pytest.mark.slow  # exports in every form

CELLS = (
    "Genotype(normal=[('skip_connect', 0), ('avg_pool_3x3', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
)
WEIGHTS = Export(to="safetensors")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A training of two steps with a part of the images held out by hand, on data with a note."""
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        recipe = small(channels=4, cells=2, reductions=(1,), steps=2, batch=32, auxiliary=0.0)
        return oche.train(CELLS, "digits", recipe=recipe, limit=300, seed=5, out=tmp_path_factory.mktemp("card") / "t")


def copied(run, path):
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("checkpoints"))
    return oche.Run.open(path)


@pytest.fixture
def run(made, tmp_path):
    return copied(made, tmp_path / "t")


@pytest.fixture(scope="session")
def every_kind(made, tmp_path_factory):
    """The training with a file of each kind in its export/, two of which take seconds each; tests leave it as it is."""
    run = copied(made, tmp_path_factory.mktemp("kinds") / "t")
    for how in (WEIGHTS, Export(to="torch-export", input="uint8-nchw"), Export(input="uint8-nhwc")):
        export(run, how)
    return run


def row(text: str, name: str) -> str:
    (found,) = re.findall(rf"^\| `?{re.escape(name)}`? \|(.*)$", text, re.MULTILINE)
    return found


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/home/somebody/secret project/my images", "my images"),
        ("/home/somebody/data/train.parquet", "train.parquet"),
        ("relative/folder/photos", "photos"),
        ("digits", "digits"),
        ("hf:owner/name", "hf:owner/name"),
    ],
)
def test_the_card_names_the_data_and_no_place_on_this_machine(run, data, name):
    from dataclasses import replace

    from oche.deploy.model_card import _data

    assert _data(replace(run.config, data=data, limit=None)) == name
    assert _data(replace(run.config, data=data, limit=1)) == f"{name}, at most 1 training image of it"
    assert _data(replace(run.config, data=data, limit=1000)) == f"{name}, at most 1,000 training images of it"


def test_no_exported_file_holds_a_path_of_this_machine(every_kind):
    """Neither the card nor a file beside it: absolute paths say who trained where."""
    from paths import ROOT

    folder = every_kind.path / "export"
    places = [str(place).encode() for place in (every_kind.path.parent, ROOT, Path.home())]
    files = [file for file in folder.iterdir() if file.suffix != ".pt2"]  # torch writes its own traces
    assert {file.suffix for file in files} >= {".md", ".onnx", ".safetensors", ".svg"}
    for file in files:
        assert not any(place in file.read_bytes() for place in places), file.name


def test_what_the_card_says(run):
    summary = run.summary
    run.path.joinpath("summary.json").write_text(json.dumps({**summary, "note": "stored as JPEG, which is lossy"}))
    done = export(run, WEIGHTS)
    assert done.card == run.path / "export" / "README.md"
    text = done.card.read_text()
    assert "# Found cells on digits\n" in text and str(run.genotype) in text
    assert f"{100 * summary['test_acc']:.2f} % of 359 test images" in row(text, "accuracy")
    assert "at most 300 training images of it; stored as JPEG, which is lossy" in row(text, "data")
    net = oche.load(run)
    assert f" {sum(p.numel() for p in net.parameters()):,} " in row(text, "parameters")
    assert f" {summary['flops']:,} for one image of 8 x 8" in row(text, "FLOPs")
    assert "recipe `small`, 2 steps, seed 5" in row(text, "training") and "channels: 4\ncells: 2\n" in text
    said = row(text, "model.safetensors")
    assert f"{done.bytes / 1000:,.1f} kB" in said and f"{done.difference:.1e}" in said and "as trained" in said
    mean, std = (float(re.search(rf"{name} += \[(.*)\]", text)[1]) for name in ("mean", "deviation"))
    assert ((mean,), (std,)) == (net.mean, net.std)
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in text and f"torch {torch.__version__}" in text


def test_pictures_of_the_cells_stand_beside_it(run):
    text = export(run, WEIGHTS).card.read_text()
    shown = re.findall(r"!\[(\w+) cell\]\((\S+)\)", text)
    assert [name for name, _ in shown] == ["normal", "reduce"]
    for name, file in shown:
        drawn = (run.path / "export" / file).read_text()
        assert xml.fromstring(drawn).tag.endswith("svg")
        assert all(op in drawn for op, *_ in run.genotype.cells[name].edges)


def test_its_snippets_run_on_the_files_that_it_lists(every_kind, monkeypatch):
    card = every_kind.path / "export" / "README.md"
    text = card.read_text()
    assert [*re.findall(r"^\| `(\S+)`", text, re.MULTILINE)] == ["model.safetensors", "model.pt2", "model.onnx"]
    snippets = dict(
        zip(("oche", "torch", "onnxruntime"), re.findall(r"```python\n(.*?)```", text, re.DOTALL), strict=True)
    )
    data = load_data("digits", limit=300)
    images, _ = data.test.gather(torch.arange(3))
    last = images.permute(0, 2, 3, 1).contiguous().numpy()
    given = {"oche": images, "torch": images, "onnxruntime": last}
    monkeypatch.chdir(card.parent)
    wanted = oche.load(every_kind).probabilities(images)
    for package, code in snippets.items():
        assert f"import {package}\n" in code and len(code.strip().splitlines()) == 3
        space = {"images": given[package]}
        exec(code, space)
        found = space.get("probabilities", space.get("outputs"))
        torch.testing.assert_close(torch.as_tensor(found), wanted, rtol=0, atol=1e-5)


def test_a_row_goes_with_its_file(every_kind, tmp_path):
    run = copied(every_kind, tmp_path / "t")
    (run.path / "export" / "model.pt2").unlink()
    text = export(run, WEIGHTS, overwrite=True).card.read_text()
    assert "model.pt2" not in text
    assert [text.count(f"| `model.{kind}` |") for kind in ("safetensors", "onnx")] == [1, 1]


@pytest.mark.parametrize(
    "edit", [lambda text: "My own words.\n", lambda text: text.replace("digits", "my digits"), None]
)
def test_nobodys_own_text_is_replaced_unasked(edit, run, capsys):
    card = run.path / "export" / "README.md"
    model = export(run, WEIGHTS).path
    mine = b"\xff\xfe" if edit is None else edit(card.read_text()).encode()
    card.write_bytes(mine)
    model.unlink()
    before = {p.name: p.read_bytes() for p in card.parent.iterdir()}
    words = ["export", str(run.path), "--to", "safetensors"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "README.md exists already, and is not an unedited card of oche" in error and error.count("\n") == 1
    assert {p.name: p.read_bytes() for p in card.parent.iterdir()} == before
    assert cli.main([*words, "--no-card"]) == 0
    assert card.read_bytes() == mine and model.exists()
    assert cli.main([*words, "--overwrite"]) == 0 and "`model.safetensors`" in card.read_text()


def test_beside_a_file_that_goes_elsewhere(run, tmp_path, capsys):
    there = tmp_path / "there"
    assert cli.main(["export", str(run.path), "--to", "safetensors", "--out", str(there / "x.safetensors")]) == 0
    assert f"model card: {there / 'x.safetensors.md'}" in capsys.readouterr().out
    names = {"x.safetensors", "x.safetensors.md", "x.safetensors.normal.svg", "x.safetensors.reduce.svg"}
    assert {p.name for p in there.iterdir()} == names
    assert "![normal cell](x.safetensors.normal.svg)" in (there / "x.safetensors.md").read_text()
    (there / "y.safetensors.normal.svg").write_text("a picture of my own")
    with pytest.raises(OcheError, match=r"y\.safetensors\.normal\.svg exists already"):
        export(run, WEIGHTS, out=there / "y.safetensors")
    assert not (there / "y.safetensors").exists()


def test_a_training_without_test_images_and_another_size(tmp_path, quick):
    recipe = small(channels=4, cells=2, reductions=(1,), steps=1, batch=32, split=0.75)
    run = oche.train(CELLS, "digits", recipe=recipe, limit=80, out=tmp_path / "s")
    text = export(run, Export(to="torch-export", size=12)).card.read_text()
    assert "% of 20 training images that were held out" in row(text, "accuracy")
    assert "(batch, 1, 12, 12)" in row(text, "model.pt2") and "not known at this size" in row(text, "model.pt2")
    none = oche.train(
        CELLS, "digits", recipe=small(channels=4, cells=2, steps=1), limit=80, holdout=0, out=tmp_path / "n"
    )
    assert "not known: the data have no test images" in row(export(none, WEIGHTS).card.read_text(), "accuracy")


def test_a_published_cell_has_its_name(tmp_path, quick):
    recipe = small(channels=2, cells=2, reductions=(1,), steps=1, batch=8)
    run = oche.train("DARTS_V2", "digits", recipe=recipe, limit=40, out=tmp_path / "t")
    assert "# DARTS_V2 on digits\n" in Path(export(run, WEIGHTS).card).read_text()
