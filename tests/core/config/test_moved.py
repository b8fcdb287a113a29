"""Fields that moved or got another name: read from files and options of before, and named in one line."""

import re
from dataclasses import replace

import pytest

from oche.cli import main as cli
from oche.core.config.command_line import _find as find_field
from oche.core.config.command_line import read_options
from oche.core.config.moved import as_before, as_recorded, current_path, relocated, renamed, short_path
from oche.core.config.serialize import from_dict, to_dict
from oche.core.config.yaml_files import dump_plain, dump_yaml, load_yaml
from oche.core.optimizers import Sgd
from oche.methods.catalog import METHODS
from oche.methods.discretize import GreedyEdge, Perturbation
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


# --- records of runs that were made before a field was there


OLD = {
    "sgas-2": ("decide", "scale", "open"),
    "darts-pt": ("select", "logits", False),
    "beta-darts": ("none", None, "always"),
}


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("flat", [False, True], ids=["0.1", "0.2"])
def test_a_run_goes_on_as_it_began(name, flat, tmp_path):
    """Its record lacks a field, which then has the value from before the field was there."""
    part, field, value = OLD[name]
    tree = to_dict(SearchConfig(search=METHODS[name].make()))
    method = tree["search"]["method"]
    del method["none"]
    if name == "sgas-2":
        del method["decide"]["scale"]
    if name == "darts-pt":
        method["select"] = "Perturbation"
    if flat:
        tree["search"] = as_before(SearchRecipe, tree["search"])
    file = tmp_path / "config.yaml"
    file.write_text(dump_plain(tree))
    found = getattr(load_yaml(file, SearchConfig()).search.method, part)
    assert (found if field is None else getattr(found, field)) == value
    again = load_yaml(file, SearchConfig())
    file.write_text(dump_yaml(again))  # a record of now, in which nothing is missing
    assert load_yaml(file, SearchConfig()) == again


@pytest.mark.parametrize("name", ["sgas-1", "darts-pt", "beta-darts", "gaea"])
def test_a_record_of_now_keeps_its_values(name, tmp_path):
    config = default_search("nb201", name)
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config))
    assert load_yaml(file, SearchConfig()) == config


def test_a_file_by_hand_takes_the_values_of_now(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(dump_plain({"search": {"method": {"decide": {"type": "GreedyEdge", "criterion": 2}}}}))
    assert load_yaml(file, SearchConfig()).search.method.decide.scale == "all"
    config = to_dict(default_search("darts", "darts"))  # a record of now in which the selection is changed
    file.write_text(
        dump_plain(config | {"search": {"method": config["search"]["method"] | {"select": "Perturbation"}}})
    )
    assert load_yaml(file, SearchConfig()).search.method.select.logits


def test_former_values_are_left_out_of_what_names_a_trial():
    config = SearchConfig(search=METHODS["sgas-1"].make())
    tree = as_recorded(config, to_dict(config))
    assert "none" not in tree["search"]["method"] and tree["search"]["method"]["decide"]["scale"] == "all"
    old = replace(
        config, search=replace(config.search, decide=GreedyEdge(scale="open"), select=Perturbation(False, False))
    )
    method = as_recorded(old, to_dict(old))["search"]["method"]
    assert method["decide"].keys() == {"type", "criterion", "start", "every", "window"}
    assert method["select"] == "Perturbation" and method["stages"] == to_dict(old)["search"]["method"]["stages"]
