"""The live page in a real browser: whole at every width, in light and dark, and kept current."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from raffect.store import Store
from tests.browsers import chromium, needs_chromium, watch
from tests.jobs.studies import Sweep
from tests.web.pages import Page, page

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    made = Sweep(Store(str(tmp_path_factory.mktemp("browser") / "store")), "va", trials=30)
    for number in range(12):
        made.complete(0.1, 0.2 + number % 5 / 50)
    made.fail("oom: no memory")
    made.begin(0.31)
    return made


@pytest.fixture(scope="module")
def shown(sweep: Sweep) -> Iterator[Page]:
    with page(sweep.store) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Any, shown: Page) -> Iterator[Any]:
    """Opens a path; at the end nothing may have gone wrong, nothing asked from elsewhere."""
    contexts, problems = [], []

    def go(path: str, theme: str = "light", width: int = 1200) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        opened = context.new_page()
        watch(opened, problems, (shown.url, "data:", "blob:"))
        opened.goto(shown.url + path)
        return opened

    yield go
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/sweeps/va"])
def test_pages_fit_every_screen(visit: Any, path: str, theme: str, width: int) -> None:
    opened = visit(path, theme, width)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    background = opened.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(246, 247, 249)" if theme == "light" else "rgb(15, 20, 27)")
    if path != "/":
        box = opened.locator(".curve svg").bounding_box()
        assert box["width"] > 0.6 * (width - 80)
        assert opened.locator(".curve path.best").count() == 1


def test_a_page_follows_its_sweep_without_being_loaded_again(visit: Any, sweep: Sweep) -> None:
    opened = visit("/sweeps/va", width=390)
    opened.evaluate("window.stayed = true; window.scrollTo(0, 400)")
    board = opened.locator('[data-part="leaderboard"] .scroll')
    board.evaluate("box => { box.scrollLeft = 60; }")
    untouched = opened.locator('[data-part="failures"]').element_handle()
    number = sweep.complete(0.9876)
    opened.locator(".hero .tile-value", has_text="0.9876").wait_for(timeout=30_000)
    assert f"trial {number}" in opened.locator(".hero .tile-note").text_content()
    assert opened.evaluate("window.stayed") is True
    assert opened.evaluate("window.scrollY") > 300
    assert board.evaluate("box => box.scrollLeft") == 60
    assert untouched.evaluate("node => node.isConnected"), "what has not changed is left alone"


def test_sweeps_are_filtered_and_compared(visit: Any, sweep: Sweep) -> None:
    other = Sweep(sweep.store, "wide", trials=2)
    other.complete(0.3)
    opened = visit("/", width=390)
    opened.locator("tr", has_text="wide").wait_for(timeout=30_000)
    opened.fill("#filter", "wide arousal")
    rows = opened.locator("tbody tr:visible")
    assert rows.locator("a").all_inner_texts() == ["wide"]
    assert "device time" in opened.locator("tbody tr:visible").first.inner_html()
    opened.fill("#filter", "nothing")
    assert opened.locator("#none").is_visible()
    opened.fill("#filter", "")
    assert opened.locator("#chosen").is_disabled()
    opened.check("input[value=va]")
    opened.check("input[value=wide]")
    before = opened.locator('[data-part="sweeps"]').element_handle()
    other.complete(0.4321)
    opened.locator("td.strong", has_text="0.4321").wait_for(timeout=30_000)
    assert not before.evaluate("node => node.isConnected"), "the list was renewed"
    opened.click("#chosen")
    opened.locator("h1", has_text="Compare").wait_for()
    assert opened.locator("thead a").all_inner_texts() == ["wide", "va"]
    assert "0.4321" in opened.locator("tbody").inner_text()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_marks_are_those_of_the_report(visit: Any) -> None:
    opened = visit("/sweeps/va")
    assert opened.locator(".trials .key.dot.complete").count() > 5
    assert opened.locator(".legend .key.dot.pruned").count() == 1


def test_the_leaderboard_shows_as_many_rows_as_are_asked_for(visit: Any, sweep: Sweep) -> None:
    for _ in range(5):
        sweep.complete(0.1)
    rows = '[data-part="leaderboard"] tbody tr'
    opened = visit("/sweeps/va?rows=3")
    assert opened.locator(rows).count() == 3
    opened.get_by_text("show all").click()
    opened.wait_for_url("**rows=all**")
    opened.locator(rows).nth(15).wait_for(timeout=30_000)


def test_the_report_draws_its_figures_here_too(visit: Any) -> None:
    opened = visit("/sweeps/va/report")
    opened.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
    assert opened.locator(".plot svg.main-svg").count() > 3


def test_a_server_that_is_gone_is_said(browser: Any, sweep: Sweep) -> None:
    with page(sweep.store) as short:
        opened = browser.new_page()
        opened.goto(f"{short.url}/sweeps/va")
        short.interrupt()
        opened.wait_for_selector("#trouble:not([hidden])", timeout=30_000)
        assert "Not current" in opened.locator("#trouble").text_content()
        assert opened.locator(".hero .tile-value").text_content() != ""
        opened.close()
