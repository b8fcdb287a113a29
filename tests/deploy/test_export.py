"""A trained network outside its run: loaded, exported, over a folder of images; what is refused before anything is written."""

import contextlib
import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import oche
import runs
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.data import load as load_data
from oche.deploy.export import TARGETS, Disagreement, Export, export
from oche.runs.checkpoint import load_weights, save_weights, weights_metadata
from oche.training.image_recipes import small

CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('dil_conv_3x3', 1), ('skip_connect', 0)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 2), ('skip_connect', 0)], "
    "reduce_concat=[2, 3])"
)
RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=24, batch=32, auxiliary=0.4, drop_path=0.2)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A network of two cells, trained for 24 steps with all that only training needs."""
    with pytest.MonkeyPatch.context() as patch:
        runs.no_report(patch)
        return oche.train(
            CELLS, "digits", recipe=small(**RECIPE), limit=300, out=tmp_path_factory.mktemp("export") / "t"
        )


@pytest.fixture(scope="session")
def digits():
    """(images uint8, labels) of the test part."""
    data = load_data("digits", limit=300)
    return data.test.gather(torch.arange(len(data.test)))


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run, to spoil."""
    shutil.copytree(trained.path, tmp_path / "t", ignore=shutil.ignore_patterns("checkpoints"))
    return tmp_path / "t"


def oracle(run, images, logits=False):
    """What the trained network makes of uint8 images, in float64 and written out: nothing of what is tested."""
    net = run.config.train.network(run.genotype, load_data("digits", limit=300))
    net.load_state_dict(load_weights(run.path / "weights.safetensors"))
    facts = json.loads((run.path / "space.json").read_text())
    mean, std = (torch.tensor(facts[k], dtype=torch.float64).view(1, -1, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        out = net.double().eval()((images.double() / 255 - mean) / std)
    return out if logits else out.softmax(1)


# --- oche.load


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


def test_a_network_with_an_mlp_head_takes_its_own_size_only(tmp_path, quick):
    recipe = small(**{**RECIPE, "steps": 1, "auxiliary": 0.0, "head": (6,)})
    run = oche.train(CELLS, "digits", recipe=recipe, limit=40, out=tmp_path / "mlp")
    with pytest.raises(OcheError, match="MLP head of this network takes 8x8 only"):
        oche.load(run)(torch.zeros(1, 1, 16, 16))
    with pytest.raises(OcheError, match="MLP head of this network takes 8x8 only"):
        export(run, Export(to="torch-export", size=16))
    assert not (run.path / "export").exists()


# --- ONNX


def session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="session")
def quantised(trained):
    """(what was said, file) of --int8 with pixels in."""
    out = trained.path.parent / "int8.onnx"
    return run_cli("export", trained.path, "--input", "uint8-nhwc", "--int8", "--out", out), out


def run_cli(*words) -> str:
    """Types a command that must succeed; what it said."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main([str(w) for w in words]) == 0
    return said.getvalue()


def test_onnx_runs_in_onnxruntime(trained, digits, tmp_path):
    import onnx

    done = export(trained, out=tmp_path / "deep" / "x.onnx")
    assert (done.path, done.bytes) == (tmp_path / "deep" / "x.onnx", (tmp_path / "deep" / "x.onnx").stat().st_size)
    assert done.difference <= 1e-5 and done.images == 256 and done.accuracy is None
    assert set(done.latency) == {1, 32} and min(done.latency.values()) > 0
    net, running = oche.load(trained), session(done.path)
    assert [(i.name, i.type, i.shape[1:]) for i in running.get_inputs()] == [("images", "tensor(float)", [1, 8, 8])]
    for batch in (1, 2, 7):
        images = digits[0][:batch]
        (logits,) = running.run(["logits"], {"images": net.prepare(images).contiguous().numpy()})
        torch.testing.assert_close(torch.from_numpy(logits).double(), oracle(trained, images, True), rtol=0, atol=1e-5)
    model = onnx.load(done.path)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert "Conv" in kinds and not kinds & {"BatchNormalization", "Dropout", "RandomUniform", "Bernoulli"}
    weights = sum(int(np.prod(i.dims)) for i in model.graph.initializer)
    assert weights < trained.summary["parameters"]  # without the tower, and a bias where scale and shift were
    about = json.loads(running.get_modelmeta().custom_metadata_map["oche.model"])
    assert about["classes"] == list(net.classes) and about["mean"] == list(net.mean) and about["image"] == [8, 8]
    assert str(Path(oche.__file__).parent).encode() not in done.path.read_bytes()


def test_pixels_in_probabilities_out_in_8_bits(trained, digits, quantised):
    import onnx

    said, path = quantised
    images, labels = digits
    (kind,) = session(path).get_inputs()
    assert (kind.type, kind.shape[1:]) == ("tensor(uint8)", [8, 8, 1])
    (p,) = session(path).run(["probabilities"], {"images": images.permute(0, 2, 3, 1).contiguous().numpy()})
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    expected = oracle(trained, images)
    assert 0 < (torch.from_numpy(p).double() - expected).abs().mean() < 0.05  # quantised, and of the same network
    before, after = ((q.argmax(1) == labels).double().mean().item() for q in (expected, torch.from_numpy(p)))
    assert f"in floats: accuracy {100 * before:.2f} %" in said and f"in 8 bits: accuracy {100 * after:.2f} %" in said
    assert f"{path}: {path.stat().st_size / 1000:,.1f} kB; images uint8 (batch, 8, 8, 1) to probabilities" in said
    assert said.count("ms for 1 image, ") == 2 and "checked on 256 images: largest difference" in said
    model = onnx.load(path)
    stored = {i.name: i.data_type for i in model.graph.initializer}
    quantised_by = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert convolutions and all(
        stored[quantised_by[n.input[1]].input[0]] == onnx.TensorProto.INT8 for n in convolutions
    )


# --- torch.export and safetensors


def test_a_torch_export_program_takes_any_batch(trained, copied, digits):
    said = run_cli("export", copied, "--to", "torch-export", "--input", "uint8-nchw")
    path = copied / "export" / "model.pt2"
    assert str(path) in said and "time in torch" in said
    files = {"oche.model": ""}
    net = torch.export.load(path, extra_files=files).module()
    assert json.loads(files["oche.model"])["classes"] == [str(k) for k in range(10)]
    for batch in (1, 5):
        images = digits[0][:batch]
        torch.testing.assert_close(net(images).double(), oracle(trained, images), rtol=0, atol=1e-5)


def test_a_graph_for_images_of_another_size(trained, tmp_path):
    said = run_cli("export", trained.path, "--to", "torch-export", "--size", 12, "--out", tmp_path / "x.pt2")
    assert "trained on 8x8, exported for 12x12" in said and "not known" in said
    net, x = oche.load(trained), torch.randn(3, 1, 12, 12)
    torch.testing.assert_close(torch.export.load(tmp_path / "x.pt2").module()(x), net(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fold", [True, False])
def test_safetensors_load_as_the_network_that_they_are(fold, trained, digits, tmp_path):
    path = tmp_path / "x.safetensors"
    export(trained, Export(to="safetensors", fold=fold), out=path)
    net, own = oche.load(path), oche.load(trained)
    assert (net.classes, net.mean, net.std, net.image) == (own.classes, own.mean, own.std, own.image)
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) is not fold
    torch.testing.assert_close(net.probabilities(digits[0]), own.probabilities(digits[0]), rtol=0, atol=1e-5)
    if not fold:  # a state dict as oche.build wants it
        bare = oche.build(trained.genotype, classes=10, channels=4, cells=2, in_channels=1, reductions=(1,))
        bare.load_state_dict(load_weights(path))


def test_what_was_held_out_by_a_split_stands_for_the_test_images(tmp_path, quick, monkeypatch):
    run = oche.train(
        CELLS, "digits", recipe=small(**{**RECIPE, "steps": 1, "split": 0.75}), limit=80, out=tmp_path / "s"
    )
    assert export(run, Export(to="safetensors")).images == 20


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
    assert (
        "differs from the trained network by" in error and "0.0001 is let through" in error and error.count("\n") == 1
    )
    assert not [*tmp_path.iterdir()]
    out.write_text("old")
    assert cli.main([*words, "--overwrite"]) == 1 and out.read_text() == "old"
    if wrong == wrong:
        assert cli.main([*words, "--overwrite", "--tolerance", "1e-3"]) == 0
    assert Disagreement.exit_code == 1


# --- refusals


def test_a_missing_package_names_the_extra(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", str(trained.path), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "needs onnxscript; pip install 'oche[export]'" in capsys.readouterr().err
    assert export(trained, Export(to="safetensors"), out=tmp_path / "x").path.exists()  # which needs none of it


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


def test_only_a_finished_training_has_a_network(searched, copied):
    with pytest.raises(OcheError, match="is a search run, which leaves no final network; train first: oche train"):
        oche.load(searched)
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    with pytest.raises(OcheError, match=r"not complete \(interrupted\); go on with: oche resume"):
        oche.load(copied)
    with pytest.raises(OcheError, match="no run directory"):
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
    with pytest.raises(OcheError, match="no sound safetensors file"):
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
    file = runs.npz(tmp_path / "x.npz", channels=1)
    run = oche.train(CELLS, file, recipe=small(**{**RECIPE, "steps": 1, "batch": 8}), out=tmp_path / "t")
    runs.npz(file, channels=3)
    with pytest.raises(OcheError, match="images of 3 channels now, and the network takes 1"):
        export(run, Export(to="safetensors"))
    file.unlink()
    with pytest.raises(OcheError, match="no such file"):
        export(run, Export(to="safetensors"))
    assert not (run.path / "export").exists()


# --- oche predict


@pytest.fixture
def pictures(digits, tmp_path):
    """A folder of ten digits, two folders deep, beside what is no image."""
    folder = tmp_path / "pictures"
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_text("no image")
    for i in range(10):
        Image.fromarray(digits[0][i, 0].numpy()).save(folder / ("b" if i % 2 else "") / f"{i}.png")
    return folder


def test_predictions_of_a_folder(trained, digits, pictures, tmp_path):
    out = tmp_path / "p.csv"
    said = run_cli("predict", trained.path, pictures, "--out", out, "--top", 2, "--batch", 3)
    assert "10 images" in said and "as trained" not in said
    rows = {row["file"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert [*rows] == [f"{i}.png" for i in range(0, 10, 2)] + [f"b/{i}.png" for i in range(1, 10, 2)]
    assert [*rows["0.png"]] == ["file", "class", "probability", "class_2", "probability_2"]
    for i, expected in enumerate(oracle(trained, digits[0][:10])):
        row = rows[f"{'b/' if i % 2 else ''}{i}.png"]
        best = expected.argsort(descending=True)
        assert [row["class"], row["class_2"]] == [str(k) for k in best[:2].tolist()]
        assert float(row["probability"]) == pytest.approx(expected[best[0]].item(), abs=2e-5)


def test_pictures_of_another_size_are_scaled(trained, pictures, tmp_path, monkeypatch):
    for file in pictures.glob("*.png"):
        Image.open(file).resize((16, 16), Image.Resampling.NEAREST).convert("RGB").save(file)
    monkeypatch.chdir(tmp_path)
    assert "5 of 10 images are not 8x8, as trained: scaled" in run_cli("predict", trained.path, pictures)
    first = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(first) == 11 and len(first[0].split(",")) == 7


def test_an_exported_file_predicts_as_its_run(trained, pictures, tmp_path):
    export(trained, Export(to="safetensors"), out=tmp_path / "x.safetensors")
    for what, name in [(trained.path, "run"), (tmp_path / "x.safetensors", "file")]:
        run_cli("predict", what, pictures, "--out", tmp_path / name, "--top", 1, "--quiet")
    one, other = (list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("run", "file"))
    assert [(r["file"], r["class"]) for r in one] == [(r["file"], r["class"]) for r in other]


def test_what_cannot_be_predicted_is_refused(trained, pictures, tmp_path, capsys):
    out = tmp_path / "p.csv"

    def refused(*words):
        assert cli.main(["predict", *map(str, words), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and not out.exists()
        return error

    assert "is no folder" in refused(trained.path, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "has no images" in refused(trained.path, tmp_path / "empty")
    assert "top=0" in refused(trained.path, pictures, "--top", 0)
    sound = (pictures / "4.png").read_bytes()
    (pictures / "4.png").write_bytes(sound[: len(sound) // 2])
    assert "4.png cannot be read" in refused(trained.path, pictures)
    (pictures / "4.png").write_bytes(b"")
    assert "4.png cannot be read (empty)" in refused(trained.path, pictures)
    (pictures / "4.png").write_bytes(sound)
    out.write_text("old")
    assert cli.main(["predict", str(trained.path), str(pictures), "--out", str(out)]) == 2
    assert out.read_text() == "old" and "--overwrite" in capsys.readouterr().err
    assert cli.main(["predict", str(trained.path), str(pictures), "--out", str(out), "--overwrite", "--quiet"]) == 0
    assert out.read_text() != "old"
