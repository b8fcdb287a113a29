"""A trained network outside its run: loaded, exported, over a folder of images; what is refused before anything is written."""

from dataclasses import replace

import pytest
import torch

import oche
from exports import CELLS
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.deploy.export import TARGETS, Disagreement, Export, export
from oche.runs.checkpoint import load_weights
from oche.training.image_recipes import small

pytestmark = pytest.mark.slow  # exports in every form

RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=24, batch=32, auxiliary=0.4, drop_path=0.2)


def test_a_trained_network_as_a_backbone(trained, digits, tmp_path):
    net = oche.load(trained)
    x = net.prepare(digits[0][:4])
    backbone = net.features()
    maps = backbone(x)
    assert torch.equal(net.net.head(maps[-1]), net(x)) and not backbone.training
    assert backbone.feature_info.reduction() == [1, 2] and [m.shape[2] for m in maps] == [8, 4]
    assert {p.data_ptr() for p in backbone.parameters()} < {p.data_ptr() for p in net.parameters()}
    again = oche.build(
        trained.genotype, features=True, out_indices=(1,), channels=4, cells=2, in_channels=1, reductions=(1,)
    )
    again.load_state_dict(load_weights(trained.path / "weights.safetensors"))  # those of tower and head are passed over
    assert torch.equal(again.eval()(x)[0], maps[1])
    export(trained, Export(to="safetensors"), out=tmp_path / "x.safetensors")  # folded
    torch.testing.assert_close(oche.load(tmp_path / "x.safetensors").features()(x)[-1], maps[-1], rtol=0, atol=1e-5)


def test_what_was_held_out_by_a_split_stands_for_the_test_images(tmp_path, quick, monkeypatch):
    run = oche.train(
        CELLS, "digits", recipe=small(**{**RECIPE, "steps": 1, "split": 0.75}), limit=80, out=tmp_path / "s"
    )
    assert export(run, Export(to="torch-export")).images == 20
    done = export(run, Export(to="safetensors"), overwrite=True)  # of weights alone, on random images
    assert done.images == 256 and "% of 20 training images that were held out" in done.card.read_text()


# --- disagreement


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_a_file_with_other_numbers_is_not_written(wrong, trained, tmp_path, monkeypatch, capsys):
    target = TARGETS["safetensors"]

    def spoilt(path):
        net = target.open(path)
        return lambda x: net(x) + wrong

    monkeypatch.setitem(TARGETS, "safetensors", replace(target, open=spoilt))
    out = tmp_path / "x.safetensors"
    words = ["export", str(trained.path), "--to", "safetensors", "--out", str(out)]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert "differs from the trained network by" in error and "0.0001 is allowed" in error and error.count("\n") == 1
    assert not [*tmp_path.iterdir()]
    out.write_text("old")
    assert cli.main([*words, "--overwrite"]) == 1 and out.read_text() == "old"
    if wrong == wrong:
        assert cli.main([*words, "--overwrite", "--tolerance", "1e-3"]) == 0
    assert Disagreement.exit_code == 1


REFUSED = {
    "--to onx": "did you mean 'onnx'?",
    "--to safetensors --int8": "write --to onnx",
    "--to torch-export --int8": "write --to onnx",
    "--to safetensors --input uint8-nchw": "no graph that --input or --size could change",
    "--to torch-export --size 4": "8 pixels a side",
    "--tolerance -1": "tolerance=-1.0",
    "--out .": ". is a folder",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_refused_on_one_line(words, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(trained.path), *words.split()]) == 2
    error = capsys.readouterr().err
    assert REFUSED[words] in error and error.count("\n") == 1 and not [*tmp_path.iterdir()]


def test_a_file_that_is_there_stays(trained, tmp_path):
    out = tmp_path / "x.safetensors"
    out.write_text("old")
    with pytest.raises(OcheError, match="exists already; write --overwrite"):
        export(trained, Export(to="safetensors"), out=out)
    assert out.read_text() == "old"
    export(trained, Export(to="safetensors"), out=out, overwrite=True)
    assert oche.load(out).classes
