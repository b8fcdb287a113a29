"""Pixels handed to a loaded network: what it takes is converted, all else is refused on one line."""

import json
import shutil

import numpy as np
import pytest
import torch

import oche
import small_runs
from data_files import encoded, pixels, png16
from exports import CELLS, run_cli, session
from oche.cli import main as cli
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data.pixel_range import AS_BEFORE, EIGHT_BITS, UNIT, PixelRange
from oche.deploy.export import Export, export
from oche.deploy.image_values import check_normalised, describe_input, levels_for
from oche.runs.membership import Earlier
from oche.runs.run_data import load_recorded
from oche.training.image_recipes import small

DEEP = PixelRange(-1024, 3071)
FLOATS = PixelRange(-2.0, 2.0, "floats")
BYTES = PixelRange(0, 255, "floats")
LEVELS = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
SPREAD = torch.linspace(0, 1, 256, dtype=torch.float64).view(1, 1, 16, 16)


@pytest.mark.parametrize(
    ("images", "network"),
    [
        (LEVELS, EIGHT_BITS),
        (LEVELS, UNIT),
        (LEVELS, BYTES),
        (LEVELS, AS_BEFORE),
        (LEVELS.long(), EIGHT_BITS),
        (LEVELS.to(torch.uint16), UNIT),
        (LEVELS / 255, EIGHT_BITS),
        ((LEVELS / 255).half(), UNIT),
        ((LEVELS / 255).double() * 1.0005, AS_BEFORE),
        (LEVELS.float(), BYTES),
        (DEEP.values(LEVELS), DEEP),
        (DEEP.values(LEVELS).round().to(torch.int16), DEEP),
        (FLOATS.values(LEVELS), FLOATS),
    ],
)
def test_what_a_network_takes_becomes_its_levels(images, network):
    assert torch.equal(levels_for(images, network), LEVELS)


def test_values_beyond_a_range_are_clipped_and_bools_are_black_and_white():
    few = DEEP.values(LEVELS)
    few[0, 0, 0, 0], few[0, 0, 15, 15] = -1100, 3200
    assert torch.equal(levels_for(few, DEEP), LEVELS)
    assert torch.equal(levels_for(LEVELS > 100, EIGHT_BITS), (LEVELS > 100).to(torch.uint8) * 255)
    assert levels_for(torch.zeros(1, 1, 8, 8), DEEP).unique().tolist() == [64]  # a constant image is taken


@pytest.mark.parametrize(
    ("images", "network", "says"),
    [
        (
            LEVELS.float(),
            EIGHT_BITS,
            "images are float32 from 0 to 255, and the network takes uint8 images, or floats in",
        ),
        (
            SPREAD * 2 - 1,
            EIGHT_BITS,
            "images are float64 from -1 to 1, and the network takes uint8 images, or floats in [0, 1]",
        ),
        (LEVELS.long() * 16, EIGHT_BITS, "images are int64 from 0 to 4080"),
        (LEVELS.to(torch.int16) - 1, UNIT, "images are int16 from -1 to 254"),
        (SPREAD * 255, UNIT, "images are float64 from 0 to 255"),
        (SPREAD, BYTES, "these look like floats of 0..1"),
        (SPREAD * 4095, BYTES, "and the network takes uint8 images, or floats in 0..255"),
        (LEVELS, DEEP, "images are uint8, and the network takes integers in -1024..3071"),
        (LEVELS > 3, FLOATS, "images are bool, and the network takes floats in -2..2"),
        (LEVELS.int(), DEEP, "these look like 8-bit values of 0..255"),
        (SPREAD, DEEP, "these look like floats of 0..1"),
        (SPREAD * 65535, DEEP, "images are float64 from 0 to 65535, and the network takes integers in -1024..3071"),
        (SPREAD * 255, FLOATS, "images are float64 from 0 to 255, and the network takes floats in -2..2"),
        (torch.full((1, 1, 8, 8), float("nan")), EIGHT_BITS, "nan or infinite"),
        (torch.full((1, 1, 8, 8), float("inf")), DEEP, "nan or infinite"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.complex64), EIGHT_BITS, "images are complex64"),
    ],
)
def test_what_it_does_not_take_is_refused(images, network, says):
    with pytest.raises(OcheError) as error:
        levels_for(images, network)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("network", [EIGHT_BITS, UNIT, BYTES, AS_BEFORE, DEEP, FLOATS])
def test_every_network_says_what_it_takes(network):
    words = {DEEP: "integers in -1024..3071", FLOATS: "floats in -2..2", BYTES: "uint8 images, or floats in 0..255"}
    assert describe_input(network) == words.get(network, "uint8 images, or floats in [0, 1]")


MOMENTS = ((0.5, 0.4, 0.4), (0.25, 0.2, 0.25))


@pytest.mark.parametrize(
    "x",
    [
        LEVELS.float().expand(1, 3, 16, 16),
        LEVELS.half().expand(1, 3, 16, 16) / 255,
        SPREAD.expand(1, 3, 16, 16),
        SPREAD.expand(1, 3, 16, 16) * 4095,
        (SPREAD.expand(1, 3, 16, 16) * 0.5 * 255).round() / 255,
        SPREAD.expand(1, 3, 16, 16) * -300,
    ],
)
def test_pixels_are_no_normalised_images(x):
    with pytest.raises(OcheError, match="these look like pixels: write net"):
        check_normalised(x, *MOMENTS)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(4, 3, 32, 32),
        torch.zeros(1, 3, 8, 8),
        torch.ones(1, 3, 8, 8),
        torch.zeros(0, 3, 8, 8),
        (torch.rand(2, 3, 16, 16) - 0.4) / 0.2,
        torch.rand(2, 3, 16, 16) * 0.5,
        torch.full((1, 3, 8, 8), float("nan")),
    ],
)
def test_normalised_images_are_taken(x):
    check_normalised(x, *MOMENTS)


def test_pixels_that_cannot_be_told_from_normalised_ones_are_taken():
    """Normalised images of a black mean lie in [0, 1] themselves."""
    check_normalised(SPREAD, (0.0,), (1.0,))


# --- a network that was trained on 12 of 16 bits ------------------------------------------------------------------------

RECIPE = dict(channels=4, cells=2, reductions=(1,), steps=60, batch=8, auxiliary=0.0)


def stripes(count: int, label: int, seed: int) -> np.ndarray:
    """Noise of up to 800 with one bright stripe, whose place is the class: 0 to 3,999."""
    x = np.random.default_rng(10 * seed + label).integers(0, 800, (count, 12, 12)).astype(np.uint16)
    x[:, 3 * label : 3 * label + 3] += 3200
    return x


def folders(root, change=lambda x: x, write=png16, seed: int = 0, parts=(("train", 8), ("test", 4))):
    for part, count in parts:
        for k in range(3):
            (root / part / f"c{k}").mkdir(parents=True)
            for i, x in enumerate(stripes(count, k, seed + len(part))):
                (root / part / f"c{k}" / f"{i}.png").write_bytes(write(change(x)))
    return root


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A training on class folders of 16-bit PNG files."""
    root = tmp_path_factory.mktemp("deep")
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        return oche.train(CELLS, folders(root / "f"), recipe=small(**RECIPE), out=root / "t", device="cpu")


@pytest.fixture
def images():
    return torch.from_numpy(np.concatenate([stripes(2, k, 5) for k in range(3)])[:, None])


def test_the_range_travels_with_the_network(deep, images, tmp_path):
    low, high = 0, 3999
    assert json.loads((deep.path / "space.json").read_text())["pixels"] == {
        "low": low,
        "high": high,
        "kind": "integers",
    }
    assert deep.summary["note"] == f"uint16 values {low}..{high} were mapped to 0..255"
    export(deep, Export(to="safetensors"), out=tmp_path / "x.safetensors", card=False)
    for net in (oche.load(deep), oche.load(tmp_path / "x.safetensors")):
        assert net.pixels == PixelRange(low, high)
        levels = torch.from_numpy(np.rint(images.numpy() * (255 / 3999)))
        mean, std = net.mean[0], net.std[0]
        expected = net(((levels / 255 - mean) / std).float()).softmax(1)
        for given in (images, images.int(), images.double(), images.numpy()):
            torch.testing.assert_close(net.probabilities(given), expected, rtol=0, atol=1e-6)
            torch.testing.assert_close(net(net.prepare(given)).softmax(1), expected, rtol=0, atol=1e-6)
        assert expected.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
        torch.testing.assert_close(net.probabilities_of(levels.to(torch.uint8)), expected, rtol=0, atol=1e-6)
        for other in (levels.to(torch.uint8), images / 4095.0, images.int() * 16):
            with pytest.raises(OcheError, match=r"and the network takes integers in 0\.\.3999"):
                net.prepare(other)


def test_evaluation_takes_the_range_of_the_network(deep, tmp_path):
    found = oche.evaluate(deep, device="cpu")
    assert found["test_acc"] == deep.summary["test_acc"] == 1 and found["test_loss"] == pytest.approx(
        deep.summary["test_loss"]
    )
    other = folders(
        tmp_path / "darker", lambda x: x // 2, seed=3, parts=(("test", 4),)
    )  # not stretched to its own range
    net = oche.load(deep)
    x = torch.from_numpy(np.concatenate([stripes(4, k, 7) // 2 for k in range(3)])[:, None])
    right = (net.probabilities(x).argmax(1) == torch.arange(3).repeat_interleave(4)).double().mean().item()
    assert oche.evaluate(deep, other, device="cpu")["test_acc"] == right
    for name, change, write, says in (
        ("full", lambda x: x * 16, png16, r"has uint16 values \d+\.\.\d+, and the network was trained on integers 0..3999"),
        ("eight", lambda x: (x // 16).astype(np.uint8), encoded, "has 8-bit images, and the network was trained on integers 0"),
    ):  # fmt: skip
        with pytest.raises(OcheError, match=says):
            oche.evaluate(deep, folders(tmp_path / name, change, write, parts=(("test", 4),)), device="cpu")


def test_predictions_take_the_range_of_the_network(deep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = run_cli("predict", deep.path, deep.path.parent / "f" / "test", "--top", 1)
    assert "values 0..3999, as trained, were mapped to 0..255" in said
    rows = [row.split(",") for row in (tmp_path / "predictions.csv").read_text().splitlines()[1:]]
    assert len(rows) == 12 and all(file.startswith(found) for file, found, _ in rows)
    for name, data in {"8.png": encoded(pixels(12, 12)), "16.png": png16(stripes(1, 0, 0)[0] * 16)}.items():
        (tmp_path / name.removesuffix(".png")).mkdir()
        (tmp_path / name.removesuffix(".png") / name).write_bytes(data)
        assert cli.main(["predict", str(deep.path), name.removesuffix(".png"), "--out", "x.csv"]) == 2
        error = capsys.readouterr().err
        assert "the network was trained on integers 0..3999" in error and error.count("\n") == 1
    assert not (tmp_path / "x.csv").exists()


def test_a_network_for_8_bits_refuses_deep_files(trained, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes(png16(stripes(1, 0, 0)[0]))
    assert cli.main(["predict", str(trained.path), str(tmp_path / "x"), "--out", str(tmp_path / "x.csv")]) == 2
    assert "has uint16 values" in (error := capsys.readouterr().err) and "was trained on 8-bit images" in error


def test_a_run_of_an_earlier_version_keeps_the_upper_8_bits(copied, tmp_path):
    facts = json.loads((copied / "space.json").read_text())
    del facts["pixels"]
    (copied / "space.json").write_text(json.dumps(facts))
    net = oche.load(copied)
    assert net.about.pixels is None and net.pixels == AS_BEFORE
    (tmp_path / "x").mkdir()
    levels = pixels(8, 8)
    (tmp_path / "x" / "a.png").write_bytes(png16(levels.astype(np.uint16) * 256 + 255))
    said = run_cli("predict", copied, tmp_path / "x", "--out", tmp_path / "p.csv", "--top", 1)
    assert "the upper 8 were kept" in said
    p = net.probabilities(torch.from_numpy(levels)[None, None])
    row = (tmp_path / "p.csv").read_text().splitlines()[1].split(",")
    assert row[1] == net.classes[p.argmax()] and float(row[2]) == pytest.approx(p.max().item(), abs=2e-6)


@pytest.mark.slow
def test_an_exported_graph_maps_the_values_itself(deep, images, tmp_path, capsys):
    done = export(deep, Export(input="values-nhwc"), out=tmp_path / "x.onnx")
    given = images.float().permute(0, 2, 3, 1).contiguous()
    (found,) = session(done.path).run(None, {"images": given.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), oche.load(deep).probabilities(images), rtol=0, atol=1e-6)
    about = json.loads(session(done.path).get_modelmeta().custom_metadata_map["oche.model"])
    assert about["pixels"] == {"low": 0, "high": 3999, "kind": "integers"}
    card = done.card.read_text()
    assert "x = (v − 0) · 255 / 3999" in card and "pixel values, float32 (batch, 1" in card.replace(
        "12, 12, 1", "1, 12, 12"
    )
    words = ["export", str(deep.path), "--input", "uint8-nhwc", "--out", str(tmp_path / "y.onnx")]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "--input uint8-nhwc takes 0..255" in error and "write --input values-nhwc" in error
    assert error.count("\n") == 1 and not (tmp_path / "y.onnx").exists()


def test_an_exported_program_does_not_look_at_values(trained):
    net = oche.load(trained)
    x = net.normalise(pixels_of(net))
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    for other in (x[:1], torch.cat([x, x])):
        torch.testing.assert_close(program(other), net(other), rtol=0, atol=1e-5)


def pixels_of(net) -> torch.Tensor:
    return torch.from_numpy(pixels(2, net.about.channels, *net.image))


def test_a_run_without_records_reads_its_deep_files_as_its_version_did(deep, tmp_path):
    """The upper 8 bits, as long as neither manifest nor space.json tells a range; each of the two is enough."""
    copy = tmp_path / "t"
    shutil.copytree(deep.path, copy)
    run = oche.Run.open(copy)

    def data():
        return load_recorded(run.config, Log(quiet=True), Earlier.read(copy, Log(quiet=True)), "evaluate")

    assert data().pixels == PixelRange(0, 3999)
    (copy / "manifest.safetensors").unlink()
    assert data().pixels == PixelRange(0, 3999)
    facts = json.loads((copy / "space.json").read_text())
    del facts["pixels"]
    (copy / "space.json").write_text(json.dumps(facts))
    found = data()
    x = np.concatenate([stripes(4, k, 4) for k in range(3)])  # of test/
    assert found.pixels == AS_BEFORE
    assert np.array_equal(found.test.gather(torch.arange(12))[0][:, 0].numpy(), x >> 8)
