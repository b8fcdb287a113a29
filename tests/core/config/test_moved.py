"""Fields that moved or got another name: read from files and options of before, and named in one line."""

import re
from dataclasses import replace

import pytest

from oche.cli import main as cli
from oche.core.config.command_line import _find as find_field
from oche.core.config.command_line import read_options
from oche.core.config.moved import as_before, current_path, relocated, renamed, short_path
from oche.core.config.serialize import from_dict, to_dict
from oche.core.config.yaml_files import dump_plain, dump_yaml, load_yaml
from oche.core.optimizers import Sgd
from oche.methods.catalog import METHODS
from oche.methods.recipe import SearchRecipe
from oche.runs.config import SearchConfig
from oche.runs.resolve import default_search


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_is_read_from_the_form_of_before(name):
    config = SearchConfig(search=METHODS[name].make(epochs=3, weight_optimizer=Sgd(lr=0.5)))
    before = to_dict(config)
    before["search"] = as_before(SearchRecipe, before["search"])
    assert "method" not in before["search"] and before["search"]["w"]["lr"] == 0.5
    assert {"relax", "epochs", "a", "tune", "curvature", "grow", "stop", "priced"} <= before["search"].keys()
    assert from_dict(SearchConfig(), before) == config


def test_a_file_of_before_is_read_and_told_of_in_one_line(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(
        dump_plain({"search": {"w": {"lr": 0.5}, "epochs": 7, "relax": "Softmax", "grow": 2, "decide": "GreedyEdge"}})
    )
    found = load_yaml(file, SearchConfig())
    assert (found.search.method.weight_optimizer.lr, found.search.epochs) == (0.5, 7)
    assert found.search.method.batch_growth == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{file}: search.w is now search.method.weight_optimizer, search.grow is now search.method.batch_growth"
    ]
    file.write_text(dump_yaml(found))
    assert load_yaml(file, SearchConfig()) == found and not capsys.readouterr().err


def test_a_moved_field_beside_its_place_of_now_gives_way():
    tree = {"w": {"lr": 0.1}, "method": {"weight_optimizer": {"lr": 0.2}}}
    assert relocated(SearchRecipe, tree) == {"method": {"weight_optimizer": {"lr": 0.2}}}


def test_options_have_a_short_and_an_old_spelling():
    base = SearchConfig()
    for spelling in ("search.w.lr", "search.weight_optimizer.lr", "search.method.weight_optimizer.lr"):
        path = tuple(spelling.split("."))
        assert current_path(base, path) == ("search", "method", "weight_optimizer", "lr")
        tree = read_options(base, [f"--{spelling}", "0.3"], "oche search")
        assert from_dict(base, tree, None) == replace(
            base, search=replace(base.search, weight_optimizer=replace(base.search.method.weight_optimizer, lr=0.3))
        )
    assert short_path(base, ("search", "method", "relax")) == ("search", "relax")
    for path in (("search", "epochs"), ("data",), ("space", "channels")):
        assert current_path(base, path) == short_path(base, path) == path
    assert [*renamed(base, {"search": {"relax": "Softmax", "epochs": 3}, "data": "digits"})] == []


def test_the_help_of_a_search_lists_the_options_that_it_takes(capsys):
    with pytest.raises(SystemExit):
        cli.main(["search", "--help-all"])
    listed = {
        flag.rstrip(",") for flag in re.findall(r"(?<![\w-])(--(?:search|space|method)\.\S+)", capsys.readouterr().out)
    }
    base = default_search("darts")
    assert len(listed) > 40
    for flag in listed - {f for f in listed if f.count("{")}:
        path = tuple(re.sub(r"\.no-([^.]+)$", r".\1", flag)[2:].replace("-", "_").split("."))
        assert find_field(base, {}, current_path(base, path)) is not None, flag
