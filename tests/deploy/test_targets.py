"""Files for torch.export, safetensors and ONNX: read back, and computing as the network."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import oche
from exports import oracle, run_cli, session
from oche.cli import main as cli
from oche.deploy.export import Export, export
from oche.runs.checkpoint import load_weights

pytestmark = pytest.mark.slow  # exports in every form


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


def test_a_missing_package_names_the_extra(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", str(trained.path), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "needs onnxscript; pip install 'oche[export]'" in capsys.readouterr().err
    assert export(trained, Export(to="safetensors"), out=tmp_path / "x").path.exists()  # which needs none of it
