"""What networks are measured by, in words and pictures: accuracies as ever, perplexities where there is text."""

import json
import re

import pytest

from oche.report.findings import search_gain
from oche.report.metrics import ACCURACY, PERPLEXITY
from oche.report.plots import curves
from oche.report.run_page import write_report

GENOTYPE = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
CANDIDATES = ["none", "tanh", "relu", "sigmoid", "identity"]


def test_numbers():
    assert ACCURACY.text(0.98123) == "98.12\u00a0%" and ACCURACY.axis == "accuracy (%)"
    assert PERPLEXITY.text(58.1) == "58.10" and PERPLEXITY.axis == "perplexity" and PERPLEXITY.text(None) == "–"
    assert PERPLEXITY.mean_sd([60.0, 62.0]) == "61.00 ± 1.41"
    assert PERPLEXITY.better(58.0, 60.0) and ACCURACY.better(0.9, 0.8)


def test_less_perplexity_is_what_a_search_buys():
    assert "The search gained 2.00 points" in search_gain(58.0, [60.0, 60.0, 60.0], PERPLEXITY)
    assert "The search lost 2.00 points" in search_gain(62.0, [60.0, 60.0, 60.0], PERPLEXITY)
    text = search_gain(58.0, [60.0, 57.0], PERPLEXITY)
    assert "a perplexity of 58.00 on the test text" in text and "better than 1 of the 2" in text
    assert "no test perplexity yet" in search_gain(None, [], PERPLEXITY)


def test_curves_of_perplexities_are_logarithmic():
    records = [{"epoch": e, "train_loss": 9.0 - e, "train_ppl": 9000.0 / e, "val_ppl": 8000.0 / e} for e in (1, 2, 3)]
    loss, ppl = curves.learning_curves(records, "Search", PERPLEXITY).axes
    assert ppl.get_ylabel() == "perplexity" and ppl.get_yscale() == "log" and loss.get_yscale() == "linear"
    assert [line.get_label() for line in ppl.lines] == ["train", "val"]
    assert list(ppl.lines[0].get_ydata()) == [9000.0, 4500.0, 3000.0]


def run(path):
    """A search of recurrent cells, as it leaves it."""
    edges = [[0, 1], [0, 2], [1, 2]]
    arch = {"recurrent": {"weights": [[0.2] * 5] * 3, "edges": None}}
    record = {
        "step": 2, "progress": 1.0, "train_loss": 6.0, "train_ppl": 403.4, "val_loss": 5.9, "val_ppl": 365.0, "arch": arch,
        "entropy": {"recurrent": 1.6}, "skip_share": {"recurrent": 0.0}, "genotype": GENOTYPE, "timings": {"seconds": 1.0},
    }  # fmt: skip
    space = {
        "space": "darts", "vocabulary": 10_000, "network": [{"name": "embedding", "channels": 8}],
        "groups": {"recurrent": {"edges": edges, "inputs": 1, "candidates": CANDIDATES}},
    }  # fmt: skip
    path.mkdir()
    (path / "status.json").write_text(json.dumps({"state": "complete", "kind": "search"}))
    (path / "config.yaml").write_text("data: ptb\n")
    (path / "space.json").write_text(json.dumps(space))
    (path / "summary.json").write_text(json.dumps({"val_ppl": 365.0}))
    (path / "metrics.jsonl").write_text("\n".join(json.dumps({"epoch": e, **record}) for e in (1, 2)) + "\n")
    (path / "genotype.txt").write_text(GENOTYPE)
    return path


@pytest.mark.slow
def test_the_report_of_a_search_of_recurrent_cells(tmp_path):
    page = write_report(run(tmp_path / "run")).read_text()
    text = re.sub(r"<[^>]*>", " ", page)
    assert "validation perplexity in the search" in text and "365.00" in text and "10,000 different tokens" in text
    assert "accuracy" not in re.sub(r"(?s)<script.*?</script>|<style.*?</style>", "", page).replace("&#39;", "")
    assert "skip connections" not in text  # the space has none
    pictures = {p.name for p in (tmp_path / "run" / "pictures").iterdir()}
    assert {"cell-recurrent.svg", "heatmap-recurrent.svg", "search-curves.svg"} <= pictures
    assert not any("skip" in name for name in pictures)
