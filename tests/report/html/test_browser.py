"""The report in a real browser: headless Chromium, driven by playwright."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from oche.report.comparison_page import write_comparison
from oche.report.drawings.cell import MARK
from oche.report.html.page import Cards, Code, Prose, Section, Table
from oche.report.html.page import render_page as html
from oche.report.run_page import write_report
from report_runs import OPERATIONS, assessment, make_run, make_training, write_json

pytestmark = pytest.mark.slow  # a browser


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    hostile = "<img src=http://127.0.0.1:9/x onerror=alert(1)>", "</script><script>alert(2)</script>"
    path = make_run(tmp_path_factory.mktemp("browser") / "run", epochs=5, classes=hostile, note="".join(hostile))
    write_json(path / "train" / "assessment.json", assessment(hostile[0]).to_dict())
    return write_report(path)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("comparison")
    for name, nodes, epochs in (("first", 4, 6), ("second", 1, 3)):
        path = make_run(out / name, epochs=epochs, trained=False, toy=False, nodes=nodes)
        write_json(path / "config.yaml", {"method": name, "seed": epochs})
        make_training(path / "train", 0.9 + nodes / 100, epochs=2)
    return write_comparison([out], out / "report.html")


@pytest.fixture
def opened(browser, report):
    """Opens the report and collects what goes wrong: console messages, page errors, requests for anything else."""
    contexts, wrong = [], []

    def show(width: int = 1200, height: int = 900, scheme: str = "light", file: Path = report, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: wrong.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: _own(r.url, file) or wrong.append(f"request: {r.url}"))
        page.goto(file.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def _own(url: str, file: Path) -> bool:
    return url in (file.as_uri(), "data:,") or url.startswith(("data:image/png;base64,", "blob:"))


def squares(page) -> list[str]:
    return page.eval_on_selector_all(".maps rect[data-value]", "rects => rects.map(r => r.getAttribute('fill'))")


def wait_for_text(page, selector: str, pattern: str) -> None:
    """Waits until all the text of an element is ``pattern``; asks again and again, for the page forbids `eval`."""
    for _ in range(200):
        if re.fullmatch(pattern, page.locator(selector).inner_text()):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{selector} still says {page.locator(selector).inner_text()!r}, not {pattern!r}")


def test_the_report_opens_without_an_error_or_a_request(opened):
    page = opened()
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert page.title() == "run · oche report"
    assert page.locator(".maps svg").count() == 2
    assert page.locator("figure svg").count() >= 12
    for svg in page.locator("figure svg").all():
        box = svg.bounding_box()
        assert box and box["width"] > 250 and box["height"] > 40


def test_the_slider_repaints_the_heat_maps(opened):
    page = opened()
    slider, output = page.locator(".heat input"), page.locator(".heat output")
    assert re.fullmatch(r"epoch 5 of 5 · \d\d\.\d %", output.inner_text())
    last = squares(page)
    assert len(set(last)) > 20
    slider.focus()
    page.keyboard.press("Home")
    assert output.inner_text() == "epoch 0 of 5"
    first = squares(page)
    normal, reduce = first[:112], first[112:]  # each has its own scale, over the whole search
    assert len(set(normal)) == len(set(reduce)) == 1  # the mixture starts out uniform
    assert page.locator(".maps g rect").count() == 0  # nothing chosen yet
    page.keyboard.press("ArrowRight")
    assert output.inner_text().startswith("epoch 1 of 5") and squares(page) not in (first, last)
    assert page.locator(".maps g rect").count() == 0  # one epoch decides nothing
    page.keyboard.press("End")
    assert squares(page) == last and page.locator(".maps g rect").count() == 4  # two nodes are decided


def test_play_runs_through_the_epochs_and_stops(opened):
    page = opened()
    page.click(".play")
    assert page.locator(".heat output").inner_text() == "epoch 0 of 5"
    wait_for_text(page, ".heat output", r"epoch 5 of 5.*")
    wait_for_text(page, ".play", "▶")


def test_a_square_tells_its_value(opened):
    page = opened()
    page.locator(".maps rect[data-value]").nth(3).click()
    said = page.locator(".readout").inner_text()
    assert re.fullmatch(rf"normal cell, 0→2, {OPERATIONS[3]}: 0\.\d{{4}}", said)


def test_the_copy_button_copies_the_genotype(opened):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.click("[data-copy]")
    wait_for_text(page, "[data-copy]", "copied|selected")
    genotype = page.locator("#genotype").inner_text()
    assert genotype.startswith("Genotype(normal=[")
    if page.locator("[data-copy]").inner_text() == "copied":
        assert page.evaluate("navigator.clipboard.readText()") == genotype
    else:
        assert page.evaluate("getSelection().toString()") == genotype


def test_without_permission_the_genotype_is_selected(opened):
    page = opened()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.click("[data-copy]")
    wait_for_text(page, "[data-copy]", "selected")
    assert page.evaluate("getSelection().toString()") == page.locator("#genotype").inner_text()


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).slice(0, 3)
      .map((c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratio = (text) => { const l = light(text); return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05); };
  const of = (selector, key) => [...document.querySelectorAll(selector)].map((e) => ratio(getComputedStyle(e)[key]));
  return {
    paper,
    words: Math.min(...of("h1, h2, h3, p, li, figcaption, td, th, th button, summary, .csv, .state, .verdict", "color")),
    figures: Math.min(...of("figure text[fill=currentColor], .maps text[fill=currentColor]", "fill")),
    labels: document.querySelectorAll("figure text[fill=currentColor]").length,
  };
}"""


@pytest.mark.parametrize("what", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(opened, scheme, what, request):
    found = opened(scheme=scheme, file=request.getfixturevalue(what)).evaluate(CONTRAST)
    assert found["paper"] > 0.9 if scheme == "light" else found["paper"] < 0.02
    assert found["words"] >= 4.5  # WCAG 2 AA
    assert found["figures"] >= 4.5


@pytest.mark.parametrize("what", ["report", "comparison"])
@pytest.mark.parametrize("width", [320, 375, 768, 1200])
def test_the_page_itself_never_scrolls_sideways(opened, width, what, request):
    page = opened(width=width, height=844, file=request.getfixturevalue(what))
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_controls_are_large_enough_to_touch(opened):
    page = opened(width=390, height=844, has_touch=True)
    for name in (".play", "[data-copy]"):
        box = page.locator(name).bounding_box()
        assert box and min(box["width"], box["height"]) >= 38
    assert page.locator(".heat input").bounding_box()["width"] >= 80


def test_text_of_the_cells_is_large_enough_to_read(opened):
    page = opened()
    sizes = page.eval_on_selector_all(
        "#cells svg", "all => all.map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width * 11)"
    )
    assert min(sizes) >= 9  # pixels


# --- tables -------------------------------------------------------------------------------------------------------------


def column(page, name: str, k: int) -> list[str]:
    rows = page.locator(f'[data-name="{name}"] tbody tr')
    return [row.locator("th, td").nth(k).inner_text() for row in rows.all()]


def test_tables_sort_by_click_and_by_key(opened, comparison):
    page = opened(file=comparison)
    heads = page.locator('[data-name="runs"] th[scope="col"]')
    titles = [head.inner_text().split(" ↕")[0] for head in heads.all()]
    k = titles.index("test accuracy")
    assert column(page, "runs", k) == ["94.00\u00a0%", "91.00\u00a0%"]
    heads.nth(k).locator("button").click()
    assert column(page, "runs", k) == ["91.00\u00a0%", "94.00\u00a0%"] and column(page, "runs", 0) == [
        "second",
        "first",
    ]
    assert [head.get_attribute("aria-sort") for head in heads.all()].count("none") == len(titles) - 1
    assert heads.nth(k).get_attribute("aria-sort") == "ascending"
    heads.nth(k).locator("button").focus()
    page.keyboard.press("Enter")
    assert column(page, "runs", k) == ["94.00\u00a0%", "91.00\u00a0%"]
    assert heads.nth(k).get_attribute("aria-sort") == "descending"
    heads.nth(0).locator("button").focus()
    page.keyboard.press("Space")
    assert column(page, "runs", 0) == ["first", "second"] and heads.nth(k).get_attribute("aria-sort") == "none"


def test_what_is_not_known_sorts_last_whichever_way(browser, tmp_path):
    rows = [
        ("a", 9, None),
        ("b", 10, "item 10"),
        ("c", None, "item 9"),
        ("d", -1.5, 'of "two", lines'),
        ("e", 2e-9, "Item 2"),
    ]
    file = tmp_path / "page.html"
    file.write_text(html("t", [Section("s", [Table("x", ("name", "number", "text"), rows)])]), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())

    def order(k: int) -> str:
        page.locator("th button").nth(k).click()
        return "".join(column(page, "x", 0))

    assert [order(1), order(1), order(2), order(2)] == ["deabc", "baedc", "ecbda", "dbcea"]
    with page.expect_download() as download:
        page.click(".csv")
    assert download.value.suggested_filename == "x.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "number", "text"], ["d", "-1.5", 'of "two", lines'], ["b", "10", "item 10"], ["c", "", "item 9"],
        ["e", "2e-09", "Item 2"], ["a", "9", ""],
    ]  # fmt: skip
    page.close()


# --- comparisons --------------------------------------------------------------------------------------------------------


def test_one_slider_moves_all_searches_to_the_same_share(opened, comparison):
    page = opened(file=comparison)
    heads, output = page.locator(".maps > div > h3"), page.locator(".heat output")
    assert [h.inner_text().rsplit(" · ", 1)[0] for h in heads.all()] == [
        "first · epoch 6 of 6",
        "second · epoch 3 of 3",
    ]
    last = squares(page)
    page.locator(".heat input").focus()
    page.keyboard.press("Home")
    assert output.inner_text() == "0 % of the search" and squares(page) != last
    assert [h.inner_text() for h in heads.all()] == ["first · epoch 0 of 6", "second · epoch 0 of 3"]
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert [h.inner_text().split(" of ")[0] for h in heads.all()] == ["first · epoch 2", "second · epoch 1"]
    page.locator(".maps rect[data-value]").nth(3).hover()
    assert page.locator(".readout").inner_text().startswith("first, normal cell, 0→2, ")


def test_differences_of_cells_are_marked_on_the_page(opened, comparison):
    page = opened(file=comparison)
    assert page.locator("#cells details[open]").count() == 1
    assert page.locator("#cells svg").count() == 4
    assert page.locator("#cells svg text", has_text=MARK).count() > 0
    assert "edges only here" in page.locator("#cells figcaption").first.inner_text()


def test_mistakes_are_shown_as_images(opened):
    page = opened()
    assert page.locator(".images img").count() == 3
    sizes = page.eval_on_selector_all(
        ".images img", "all => all.map(i => [i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert all(natural == 8 and shown > 80 for natural, shown in sizes)
    assert "<img src=http" in page.locator("#assessment").inner_text()  # a class's name, as text


def hints(page) -> list[bool]:
    """For each table and drawing that may scroll: whether it is wider than its place, and whether a line says so."""
    return page.eval_on_selector_all(
        ".scroll", "all => all.map(s => [s.scrollWidth > s.clientWidth + 1, !s.nextElementSibling.hidden])"
    )


def test_what_a_phone_cuts_off_says_so(opened):
    """A shadow at the side, without any script, and a line below. On a wide screen nothing is cut off."""
    page = opened(width=390)
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    page.wait_for_timeout(300)
    found = hints(page)
    assert any(cut for cut, _ in found) and all(cut == said for cut, said in found)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # the page itself never scrolls sideways
    assert "gradient" in page.eval_on_selector(".scroll", "s => getComputedStyle(s).backgroundImage")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_timeout(300)
    wide = hints(page)
    assert all(cut == said for cut, said in wide) and sum(cut for cut, _ in wide) < sum(cut for cut, _ in found)


@pytest.mark.parametrize("width", [320, 390, 480])
def test_a_number_and_its_unit_stay_on_one_line(browser, tmp_path, width):
    """ "95 %", "± 0.48", "3 min" in prose, cards, captions and cells of tables."""
    words = " ".join(f"word{'y' * (i % 7)} {i}.25 ± 0.48 % in {i} min, or {i} %" for i in range(40))
    table = Table("numbers", ("what", "value"), [(words[:300], "98.89 ± 0.48 %")], words[:200])
    file = tmp_path / "page.html"
    items = [Cards([("a long label of a card", "1,234.56 ± 1,234.56 %")]), Prose(words), table, Code("a ± 1 %")]
    file.write_text(html("title", [Section("Part", items)]))
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(file.as_uri())
    texts = page.evaluate("[...document.querySelectorAll('p, td, th, span, b')].map(e => e.textContent).join('\\n')")
    assert not re.search(r"\d (%|±|min)|± ", texts) and texts.count("\u00a0%") > 80
    assert page.locator("pre").inner_text() == "a ± 1 %"  # text to copy stays as it is
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
