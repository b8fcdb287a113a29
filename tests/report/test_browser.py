"""The report in a real browser: headless Chromium, driven by playwright."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from report_runs import OPERATIONS, make_run

from oche.report import write_report

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium on this machine; install it, for example with: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    hostile = "<img src=http://127.0.0.1:9/x onerror=alert(1)>", "</script><script>alert(2)</script>"
    path = make_run(tmp_path_factory.mktemp("browser") / "run", epochs=5, classes=hostile, note="".join(hostile))
    return write_report(path)


@pytest.fixture
def opened(browser, report):
    """Opens the report and collects what goes wrong: console messages, page errors, requests for anything else."""
    contexts, wrong = [], []

    def show(width: int = 1200, height: int = 900, scheme: str = "light", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: wrong.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: r.url in (report.as_uri(), "data:,") or wrong.append(f"request: {r.url}"))
        page.goto(report.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


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
    assert page.locator(".maps g rect").count() == 16
    page.keyboard.press("End")
    assert squares(page) == last


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
    words: Math.min(...of("h1, h2, h3, p, figcaption, td, th, summary, .state, .verdict", "color")),
    figures: Math.min(...of("figure text[fill=currentColor], .maps text[fill=currentColor]", "fill")),
    labels: document.querySelectorAll("figure text[fill=currentColor]").length,
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(opened, scheme):
    found = opened(scheme=scheme).evaluate(CONTRAST)
    assert found["paper"] > 0.9 if scheme == "light" else found["paper"] < 0.02
    assert found["words"] >= 4.5  # WCAG 2 AA
    assert found["figures"] >= 4.5


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_the_page_itself_never_scrolls_sideways(opened, width):
    page = opened(width=width, height=844)
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
