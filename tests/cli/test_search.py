"""oche search: options, configurations, and what it tells at its end."""

import json
import re
from pathlib import Path

import pytest

import oche
import small_runs
from oche.core.optimizers import Sgd


def test_commands_that_contradict_their_file_are_refused(searched, oche_, here):
    file = searched.path / "config.yaml"
    code, _, err = oche_("search", "--config", file, "--method", "darts")
    assert code == 2 and "--method darts and the --config file contradict each other" in err
    code, _, err = oche_("search", "--config", file, "--space", "seed")
    assert code == 2 and "--space seed and the --config file contradict each other" in err


def test_defaults_of_search(told, oche_):
    oche_("search")
    (config, fields) = told[0]
    assert config.search == oche.methods.beta_darts() and config.method == "beta-darts"
    assert config.space == oche.spaces.darts() and config.data == "digits"
    assert fields["out"] is None and not fields["overwrite"]
    oche_("search --space recurrent")  # whose own default nobody has measured another against
    assert told[1][0].method == "darts" and told[1][0].data == "ptb"


def test_dotted_overrides(told, oche_, here):
    oche_(
        "search --data cifar10 --method darts-2nd --search.epochs 7 --search.w.lr 1e-3 --search.w.lr_min 1e-4 --search.pad 2 "
        "--space.channels 8 --space.candidates none skip_connect sep_conv_3x3 --search.no-flip --seed=5 --out runs/q --overwrite"
    )
    config, fields = told[0]
    method = oche.methods.darts(2, epochs=7, weight_optimizer=Sgd(lr=1e-3, lr_min=1e-4), pad=2, flip=False)
    assert config.search == method and config.method == "darts-2nd" and config.seed == 5
    assert config.space == oche.spaces.darts(channels=8, candidates=("none", "skip_connect", "sep_conv_3x3"))
    assert fields["out"] == Path("runs/q") and fields["overwrite"]


@pytest.mark.parametrize("name", ["exact", "joint", "first_order", "FiniteDifference", "Neumann"])
def test_upper_gradient_by_name(name, told, oche_):
    from oche.core.registry import COMPONENTS

    oche_("search", "--search.hypergrad", name)
    known = COMPONENTS[name]
    assert told[0][0].search.method.hypergrad == (known() if isinstance(known, type) else known)


def test_options_of_a_part_and_method_and_space_by_name(told, oche_):
    oche_(
        "search", "--search.hypergrad", "Neumann", "--search.hypergrad.terms", "3", "--space", "seed", "--method=seed"
    )
    config = told[0][0]
    assert (
        config.search.method.hypergrad.terms == 3 and config.search.epochs == 40 and config.space == oche.spaces.seed()
    )


def test_a_file_then_options_on_top(told, oche_, here):
    (here / "c.yaml").write_text("method: implicit\nlimit: 50\nsearch: {epochs: 9, batch: 8}\n")
    oche_("search", "--search.batch", "4", "--config", "c.yaml")
    config = told[0][0]
    assert (
        config.search == oche.methods.implicit(epochs=9, batch=4) and config.limit == 50 and config.method == "implicit"
    )


def test_data_on_the_command_line_come_on_top_of_a_file(told, oche_, here):
    (here / "t.yaml").write_text(
        f'genotype: "{oche.genotypes.DARTS_V1}"\ndata: mnist\nrecipe: small\ntrain: {{epochs: 2}}\n'
    )
    oche_("train", "--config", "t.yaml")
    oche_("train", "--config", "t.yaml", "--data", "svhn")
    assert [config.data for config, _ in told] == ["mnist", "svhn"]
    assert all(config.train == oche.training.small(epochs=2) for config, _ in told)
    assert all(config.genotype == str(oche.genotypes.DARTS_V1) for config, _ in told)


@pytest.mark.slow
def test_search_tells_what_it_found_and_what_to_type_next(oche_, here, quick):
    code, out, err = oche_("search", *small_runs.TINY, "--out", "runs/a")
    run = oche.Run.open("runs/a")
    assert code == 0 and not err
    assert (
        f"found: {run.genotype}\n" in out
        and "\nreport: runs/a/report.html\nnext: oche train runs/a --recipe small" in out
    )
    assert re.search(r"^search +\d+ %.* train loss \d\.\d+ .*val acc", out, re.M)
    code, out, err = oche_("search", *small_runs.TINY, "--out", "runs/a")
    assert code == 2 and not out and "runs/a holds a complete search" in err
    code, out, err = oche_("resume", "runs/a")
    assert code == 0 and "runs/a is complete; nothing to resume" in out
    code, out, err = oche_("train", "runs/a", *small_runs.TRAIN)
    assert code == 0 and not err
    accuracy = oche.Run.open("runs/a/train").summary["test_acc"]
    assert f"runs/a/train: test accuracy {100 * accuracy:.2f} %" in out


@pytest.mark.slow
def test_quiet_says_nothing(oche_, here, quick):
    assert oche_("search", *small_runs.TINY, "--out", "runs/a", "--quiet") == (0, "", "")
    assert oche_("train", "runs/a", *small_runs.TRAIN, "--quiet") == (0, "", "")
    assert oche_("resume", "runs/a", "--quiet") == (0, "", "")
    assert oche_("toy", "--out", "t", "--xi", "0.5", "--quiet") == (0, "", "")


def test_own_images_in_a_folder(oche_, here, quick):
    """A folder of class folders, images of several sizes: one size, a held-out test part, three channels."""
    from PIL import Image

    for c, colour in enumerate(("red", "green", "blue")):
        for i in range(10):
            path = here / "photos" / colour / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12 + i, 14), tuple(200 if k == c else 10 * i for k in range(3))).save(path)
    code, out, err = oche_(
        "search", "--data", "photos", "--size", "10", *small_runs.SPACE, "--search.steps", "2", "--out", "runs/p"
    )
    assert code == 0 and not err, err
    space = json.loads(Path("runs/p/space.json").read_text())
    assert space["classes"] == ["blue", "green", "red"] and space["image"] == [10, 10] and space["in_channels"] == 3
    code, out, _ = oche_("train", "runs/p", *small_runs.TRAIN)
    assert code == 0 and "test accuracy" in out and oche.Run.open("runs/p/train").config.size == 10
