"""The page of `oche doctor`, and its exit code."""

from oche.bench.facts import Fact, advice, exit_code, page, plain


def test_the_page_fits_80_columns():
    long = "a value of very many words " * 8
    facts = [
        Fact("machine", "processor", long), Fact("machine", "a name that is longer than its column is", "x" * 200, "note", long),
        Fact("proved", "kernels", "they differ", "wrong", "install others"),
    ]  # fmt: skip
    lines = page(facts).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "machine" and any(line.startswith("! kernels          they differ") for line in lines)
    assert lines[-1] == "wrong: kernels"
    at = lines.index("what to install")
    assert lines[at + 1] == "  install others" and lines[at + 2].startswith("  a value of very many words")


def test_nothing_to_do():
    assert page([Fact("machine", "processor", "fast")]).splitlines()[3:] == [
        "nothing to install", "", "everything that oche needs works here",
    ]  # fmt: skip


def test_what_is_wrong_comes_first_and_each_advice_once():
    facts = [Fact("a", "b", "c", "note", "x"), Fact("a", "b", "c", "wrong", "y"), Fact("a", "d", "c", "note", "x")]
    assert advice(facts) == ["y", "x"] and exit_code(facts) == 1 and exit_code(facts[:1]) == 0
    assert plain(facts[:1]) == {"works": True, "facts": [vars(facts[0])], "install": ["x"]}
