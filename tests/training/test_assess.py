"""Assessments of trainings in their run directories, and by `oche evaluate` beside them."""

import json
import re

import pytest

import oche
import small_runs
from oche.analysis.classification import Assessment
from oche.cli import main as cli
from oche.core.errors import OcheError
from oche.report.classification_page import write_assessment_page
from oche.report.run_page import write_report

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.slow
def test_images_are_assessed_with_the_training_and_apart_from_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "oche.deploy.evaluate.write_assessment_page", write_assessment_page
    )  # its pictures are looked at
    data, other = small_runs.npz(tmp_path / "mine.npz"), small_runs.npz(tmp_path / "larger.npz", side=16)
    run = oche.train("DARTS_V2", data, recipe=small_runs.recipe(batch=8), out=tmp_path / "x", device="cpu")
    own = (run.path / "assessment.json").read_bytes()
    found = Assessment.from_dict(json.loads(own))
    assert (found.accuracy, found.ece) == (run.summary["test_acc"], run.summary["test_ece"])
    assert found.nll == pytest.approx(run.summary["test_loss"], rel=1e-6) and found.images == 12
    assert len(found.mistakes) == round(12 * (1 - found.accuracy)) and all(m.png for m in found.mistakes)
    before = {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()}
    assert cli.main(["evaluate", str(run.path), "--data", str(other)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"class +images +accuracy\n0 +3 +\d", said) and "calibration error" in said
    folder = run.path / "evaluation-larger"
    assert Assessment.from_dict(json.loads((folder / "assessment.json").read_text())).data == "larger"
    assert {f"assessment-{name}.svg" for name in ("confusion", "reliability")} <= {
        f.name for f in (folder / "pictures").iterdir()
    }
    assert {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()} == before
    page = write_report(run.path).read_text()
    assert "Classification errors" in page and "x, evaluation-larger: 12 test images of larger" in page
    assert 'src="data:image/png;base64,' in page or found.accuracy == 1
    assert oche.evaluate(run, device="cpu")["test_ece"] == pytest.approx(found.ece, abs=1e-6)
    with pytest.raises(OcheError, match="x is a run, whose own records stay as they are"):
        oche.evaluate(run, out=run.path)
