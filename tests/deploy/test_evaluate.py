"""Finished trainings are measured on other data."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import oche
import small_runs
from class_folders import picture, write
from language_runs import make
from oche.cli import main as cli
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data.identity import encoded_id
from oche.data.manifest import FIRST, SECOND
from oche.deploy.evaluate import evaluate_run, result_numbers
from oche.runs.checkpoint import load_weights
from oche.runs.membership import Earlier

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
pytestmark = pytest.mark.usefixtures("quick")


def test_other_texts(text, capsys):
    run = make(text, test_batch=1)
    other = text.parent / "other.txt"
    other.write_text("w1 w2 foreign w3\n" * 6)
    found = oche.evaluate(run, other)
    assert found["test_tokens"] == 30 and found["test_unknown"] == pytest.approx(0.2) and "val_ppl" not in found
    vocabulary = json.loads((run.path / "vocabulary.json").read_text())["vocabulary"]
    net = run.config.train.network(CELL, 14)
    net.load_state_dict(load_weights(run.path / "weights.safetensors"))
    line = [vocabulary.index(w) for w in ("w1", "w2", "<unk>", "w3", "<eos>")]
    tokens = torch.tensor(line * 6)[:, None]
    with torch.no_grad():
        logp = net.eval()(tokens[:-1]).logits.log_softmax(2)
    assert found["test_loss"] == pytest.approx(-logp.gather(2, tokens[1:, :, None]).mean().item(), rel=1e-5)
    assert cli.main(["evaluate", str(run.path), "--data", str(other)]) == 0
    assert "unknown tokens: 20.00 % of 30" in capsys.readouterr().out
    parts = text.parent / "parts"
    parts.mkdir()
    for part in ("train", "valid", "test"):
        (parts / f"{part}.txt").write_text("w5 w2 w1\n" * 9)
    assert oche.evaluate(run, parts)["val_tokens"] == 36


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("digits", "was trained on text, and digits is images; give --data of its kind"),
        ("none.txt", "there is no file none.txt"),
        ("foreign.txt", "the vocabulary has none of its words"),
        ("empty.txt", "empty.txt is empty"),
    ],
)
def test_data_that_cannot_be_measured(text, data, words, monkeypatch):
    monkeypatch.chdir(text.parent)
    run = make(text, epochs=1)
    (text.parent / "foreign.txt").write_text("le chat\n")
    (text.parent / "empty.txt").touch()
    with pytest.raises(OcheError, match=words):
        oche.evaluate(run, data)


def test_what_is_no_finished_training_is_refused(text, searched):
    with pytest.raises(OcheError, match="is a search run, which leaves no final network"):
        oche.evaluate(searched)
    run = make(text, epochs=1)
    with pytest.raises(OcheError, match="trained a language model, not a classifier; measure it with: oche evaluate"):
        oche.load(run)
    lacking = text.parent / "lacking"
    shutil.copytree(run.path, lacking)
    (lacking / "vocabulary.json").unlink()
    with pytest.raises(OcheError, match=r"has no vocabulary.json; restore it"):
        oche.evaluate(lacking)
    written = json.loads((run.path / "vocabulary.json").read_text())
    (lacking / "vocabulary.json").write_text(json.dumps({**written, "vocabulary": written["vocabulary"][:-1]}))
    with pytest.raises(OcheError, match=r"does not fit .* bias is \(14,\) in the file, \(13,\) in the network"):
        oche.evaluate(lacking)
    status = json.loads((run.path / "status.json").read_text())
    (run.path / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    with pytest.raises(OcheError, match="is not complete"):
        oche.evaluate(run)


@pytest.mark.slow
def test_images_are_measured_again(tmp_path, capsys):
    data = small_runs.npz(tmp_path / "mine.npz")
    run = oche.train("DARTS_V2", data, recipe=small_runs.recipe(batch=8), out=tmp_path / "x", device="cpu")
    found = oche.evaluate(run, device="cpu")
    assert found["test_acc"] == run.summary["test_acc"] and found["test_images"] == 12
    assert found["test_loss"] == pytest.approx(run.summary["test_loss"], rel=1e-5)
    assert cli.main(["evaluate", str(run.path)]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.startswith(f"test accuracy {100 * found['test_acc']:.2f} % (balanced ")
    assert f"report: {run.path}/evaluation/report.html" in (last, *lines)
    other = small_runs.npz(tmp_path / "larger.npz", side=16)  # brought to the size of the training
    assert 0 <= oche.evaluate(run, other)["test_acc"] <= 1
    with pytest.raises(OcheError, match=r"larger has the classes 4, 5, and .* was trained on 0, 1, 2, 3"):
        oche.evaluate(run, small_runs.npz(tmp_path / "larger.npz", classes=6))
    with pytest.raises(OcheError, match=r"grey has 1 channels, and .* was trained on 3"):
        oche.evaluate(run, small_runs.npz(tmp_path / "grey.npz", channels=1))
    with pytest.raises(OcheError, match="was trained on images, and ptb is text"):
        oche.evaluate(run, "ptb")


# --- images given to be measured -----------------------------------------------------------------------------------------

KNOWN = {"ants": range(12), "bees": range(12, 24), "cats": range(24, 36)}
OTHERS = {"ants": range(50, 55), "bees": range(60, 67), "cats": range(70, 73)}


@pytest.fixture(scope="module")
def insects(tmp_path_factory) -> oche.Run:
    """A network trained on class folders."""
    here = tmp_path_factory.mktemp("insects")
    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        return oche.train(
            "DARTS_V2", write(here / "data", KNOWN), recipe=small_runs.recipe(batch=8), out=here / "x", device="cpu"
        )


def by_hand(run: oche.Run, images: dict[str, list[int]]) -> tuple[float, dict[str, float]]:
    """(accuracy, accuracy by class) on numbered pictures, from the probabilities of the loaded network."""
    net, right = oche.load(run), {}
    for name, numbers in images.items():
        x = torch.from_numpy(np.stack([picture(n) for n in numbers])).permute(0, 3, 1, 2)
        right[name] = net.probabilities(x).argmax(1) == net.classes.index(name)
    return torch.cat([*right.values()]).float().mean().item(), {c: r.float().mean().item() for c, r in right.items()}


def measured(run: oche.Run, place) -> tuple[dict, dict]:
    """The numbers of an evaluation, and its whole assessment, without drawing it."""
    found = evaluate_run(run, str(place), None, "cpu", Log(quiet=True))
    return result_numbers(found), found.to_dict()


@pytest.mark.parametrize(
    "images",
    [
        OTHERS,
        {"cats": OTHERS["cats"], "ants": OTHERS["ants"]},  # some of the classes
        {"bees": OTHERS["bees"]},  # one class
    ],
)
@pytest.mark.parametrize("form", ["folder", "npz", "parquet"])
def test_all_images_of_other_data_are_measured_and_classes_matched_by_name(insects, tmp_path, capsys, images, form):
    place = {"folder": write, "npz": write_npz, "parquet": write_parquet}[form](tmp_path / "other", images)
    numbers, found = measured(insects, place)
    accuracy, of_class = by_hand(insects, images)
    assert numbers["test_images"] == sum(map(len, images.values())) and numbers["test_acc"] == pytest.approx(accuracy)
    assert found["classes"] == ("ants", "bees", "cats")
    for row, name in zip(found["confusion"], found["classes"], strict=True):
        assert sum(row) == len(images.get(name, ()))
        if name in images:
            assert row[found["classes"].index(name)] / sum(row) == pytest.approx(of_class[name])
    said = capsys.readouterr().err.splitlines()
    lacking = [name for name in KNOWN if name not in images]
    assert len(said) == bool(lacking) and all(name in said[0] for name in lacking)


def test_classes_in_another_order_are_matched_by_name(insects, tmp_path):
    turned = {"cats": OTHERS["cats"], "bees": OTHERS["bees"], "ants": OTHERS["ants"]}
    place = write_npz(tmp_path / "turned", turned, names=["cats", "bees", "ants"])
    assert oche.evaluate(insects, place, device="cpu")["test_acc"] == pytest.approx(by_hand(insects, turned)[0])


@pytest.mark.parametrize("form", ["folder", "npz", "parquet"])
@pytest.mark.parametrize("more", [["wasps"], ["Ants"], ["wasps", "moths"]])
def test_classes_that_the_network_lacks_are_named(insects, tmp_path, form, more):
    images = {**OTHERS, **{name: range(80 + 2 * k, 82 + 2 * k) for k, name in enumerate(more)}}
    place = {"folder": write, "npz": write_npz, "parquet": write_parquet}[form](tmp_path / "other", images)
    names = ", ".join(sorted(more))
    with pytest.raises(
        OcheError, match=f"has the class(es)? {names}, and .* was trained on ants, bees, cats; remove or"
    ):
        oche.evaluate(insects, place, device="cpu")


def test_a_folder_without_a_known_class_is_refused_by_name(insects, tmp_path):
    place = write(tmp_path / "other", {"dogs": [1, 2], "cows": [3, 4]})
    with pytest.raises(OcheError, match=r"no folder with the name of a class .*ants, bees, cats.*: cows, dogs"):
        oche.evaluate(insects, place, device="cpu")


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        ({"train/ants": [80], "test/ants": [50, 51], "test/bees": [60]}, 3),
        ({"train/ants": [80], "val/ants": [50, 51]}, 2),
        ({"test/ants": [50], "val/bees": [60, 61, 62]}, 1),
        ({"test/cats": [70, 71]}, 2),  # a test part alone
        ({"train/ants": [50], "train/bees": [60, 61]}, 3),  # no other part: all of it
        ({"all/inside/ants": [50], "all/inside/bees": [60]}, 2),
    ],
)
def test_of_data_with_parts_the_test_part_is_measured(insects, tmp_path, capsys, layout, count):
    write(tmp_path / "other", layout)
    assert evaluate_run(insects, str(tmp_path / "other"), None, "cpu", Log()).images == count
    said, parts = capsys.readouterr().out, {name.split("/")[0] for name in layout} - {"all"}
    if len(parts) > 1:
        assert f"data: measured is its part {'test' if 'test' in parts else 'val'}, not used: " in said


def test_a_test_part_in_arrays_is_measured(insects, tmp_path):
    x = np.stack([picture(n) for n in range(90, 96)])
    y = np.array(["ants", "bees", "ants", "cats", "bees", "ants"])
    np.savez(tmp_path / "a.npz", x_train=x[:2], y_train=y[:2], x_test=x[2:], y_test=y[2:])
    np.savez(tmp_path / "b.npz", x_test=x[2:], y_test=y[2:])
    np.savez(tmp_path / "c.npz", x_val=x[2:5], y_val=y[2:5], x_train=x[:2], y_train=y[:2])
    assert [oche.evaluate(insects, tmp_path / f"{f}.npz", device="cpu")["test_images"] for f in "abc"] == [4, 4, 3]


def test_images_that_were_trained_on_are_counted(insects, tmp_path, capsys):
    place = write(tmp_path / "other", {"ants": [*range(6), *range(50, 60)], "bees": range(60, 70)}, prefix="new")
    assert oche.evaluate(insects, place, device="cpu")["test_images"] == 26
    tested = {n for n in range(12) if n not in trained_numbers(insects)}
    count = len(set(range(6)) - tested)
    assert (
        f"images of other that {insects.path} was trained on: {count} of 26; accuracy on them is no test"
        in capsys.readouterr().err
    )


def trained_numbers(run: oche.Run) -> set[int]:
    """The numbers of the pictures that ``run`` was trained on."""
    manifest = Earlier.read(run.path, Log(quiet=True)).manifest
    train = set(manifest.ids[manifest.members(FIRST, SECOND)].tolist())
    files = sorted((run.path.parent / "data").rglob("*.png"))
    return {int(file.stem) for file in files if encoded_id(file) in train}


@pytest.mark.parametrize("damaged", ["skip", "refuse", None])
def test_damaged_images_of_other_data(insects, tmp_path, damaged):
    place = write(tmp_path / "other", OTHERS)
    (place / "bees" / "broken.png").write_bytes((place / "bees" / "060.png").read_bytes()[:60])
    if damaged == "skip":
        assert oche.evaluate(insects, place, damaged=damaged, device="cpu")["test_images"] == 15
        return
    with pytest.raises(OcheError, match=r"broken.png cannot be read .*, or write --damaged skip to leave out"):
        oche.evaluate(insects, place, damaged=damaged, device="cpu")


def test_every_option_that_a_message_of_evaluate_names_is_one_of_it(insects, tmp_path, capsys):
    """Messages of a dozen kinds of trouble, on the command line."""
    broken = write(tmp_path / "broken", OTHERS)
    (broken / "ants" / "x.png").write_bytes(b"no image")
    grey = tmp_path / "grey.npz"
    np.savez(grey, x=np.zeros((4, 12, 12), np.uint8), y=np.array(["ants", "bees", "ants", "bees"]))
    tiny = tmp_path / "tiny.npz"
    np.savez(tiny, x=np.zeros((4, 3, 3, 3), np.uint8), y=np.array(["ants", "bees", "ants", "bees"]))
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").write_bytes(b"PK")
    places = [broken, grey, tiny, tmp_path / "empty", tmp_path / "x.zip", tmp_path / "none", "cifar", "ptb"]
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for place in places:
        assert cli.main(["evaluate", str(insects.path), "--data", str(place), "--device", "cpu"]) == 2
        said = capsys.readouterr().err.strip()
        assert "\n" not in said and set(re.findall(r"--[a-z-]+", said)) <= known, said
        assert not re.search(r"\bholdout|\blimit\b", said), said


def test_grey_images_in_a_folder_are_measured_by_a_network_for_colour(insects, tmp_path):
    for k in range(4):
        (tmp_path / "grey" / "ants").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(k)[:, :, 0]).save(tmp_path / "grey" / "ants" / f"{k}.png")
    assert oche.evaluate(insects, tmp_path / "grey", device="cpu")["test_images"] == 4


def write_npz(path, images, names=None):
    """The pictures in arrays; labels are words, or numbers of ``names``."""
    words = [c for c, numbers in images.items() for _ in numbers]
    x = np.stack([picture(n) for numbers in images.values() for n in numbers])
    labels = (
        {"y": np.array(words)} if names is None else {"y": np.array([names.index(w) for w in words]), "classes": names}
    )
    np.savez(path.with_suffix(".npz"), x=x, **labels)
    return path.with_suffix(".npz")


def write_parquet(path, images):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for name, numbers in images.items():
        for n in numbers:
            Image.fromarray(picture(n)).save(file := io.BytesIO(), "PNG")
            rows.append({"image": file.getvalue(), "label": name})
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")
