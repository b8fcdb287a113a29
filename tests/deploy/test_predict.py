"""Predictions of a folder of pictures."""

import csv

import pytest
from PIL import Image

from exports import oracle, run_cli
from oche.cli import main as cli
from oche.deploy.export import Export, export


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
