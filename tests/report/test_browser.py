"""The report in a real browser, offline: drawn whole, in light and dark, wide and narrow.

The browser is Debian's chromium, driven by Playwright; without either the tests are skipped.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raffect.affwild2.tasks import Task
from raffect.report.collect import assemble, collect
from raffect.report.page import sweep_page, write_overview, write_report
from raffect.report.tables_of_sweep import tables_of
from raffect.store import Store
from raffect.sweep.ablation import Variant
from raffect.sweep.ablation_table import AblationRow
from tests.browsers import chromium, needs_chromium, watch
from tests.report.views import made_up, made_up_validation, row, view
from tests.sweep import tiny

WIDE, NARROW = 1200, 390
OVERVIEW = "overview"
REACHABLE = dict.fromkeys(Task, 0.99)
SECTIONS = {
    "history", "device-time", "curves", "importance", "parallel", "slices", "losses", "grid",
    "parts", "confusion", "cost", "videos",
}  # fmt: skip
DRAWN = SECTIONS - {"importance"}
"""Of the small real sweeps: they have too few trials for the importance."""

pytestmark = [pytest.mark.slow, needs_chromium]
# CI has time for all looks of one task, and for one of each other.
LOOKS = [
    pytest.param(
        task.value, theme, width, id=f"{task.value}-{theme}-{width}",
        marks=() if task is Task.VA or (theme, width) == ("dark", NARROW) else pytest.mark.long,
    )
    for task in Task
    for theme in ("light", "dark")
    for width in (WIDE, NARROW)
]  # fmt: skip
MARKS = "path.point, .point path, path.js-line, .heatmaplayer image, .shapelayer path"
PLOTS = """plots => plots.filter(plot => plot.offsetParent).map(plot => ({
    key: plot.dataset.figure,
    section: plot.closest("[data-section]")?.dataset.section,
    drawn: plot.querySelectorAll("svg.main-svg").length > 0,
    marks: plot.querySelectorAll(MARKS).length,
    wide: plot.getBoundingClientRect().right - document.documentElement.clientWidth,
}))""".replace("MARKS", repr(MARKS))
# Turned labels stand apart although the boxes around them do not.
COVERED = """plots => plots.filter(plot => plot.offsetParent).flatMap(plot =>
    ["xtick", "ytick"].flatMap(axis => {
        const labels = [...plot.querySelectorAll(`g.${axis} text`)]
            .filter(text => !/rotate\\(-?[1-9]/.test(text.getAttribute("transform") ?? ""));
        const boxes = labels.map(text => text.getBoundingClientRect());
        return labels.flatMap((text, i) => boxes.slice(i + 1).some(other =>
            boxes[i].left + 1 < other.right && other.left + 1 < boxes[i].right
            && boxes[i].top + 1 < other.bottom && other.top + 1 < boxes[i].bottom)
            ? [`${plot.dataset.figure}: ${text.textContent}`] : []);
    }))"""


CUT = ".paper td, .paper th, .tile-value, figure, .card table"
IS_CUT = "one => one.offsetParent && (one.getBoundingClientRect().right > 701)"


@dataclass
class Opened:
    """A page in the browser, and what went wrong in it."""

    page: Any
    problems: list[str] = field(default_factory=list)

    def unfold(self) -> None:
        """Open what a narrow screen folds, and wait until its figures are drawn."""
        self.page.eval_on_selector_all(".fold", "all => all.forEach(one => { one.open = true })")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every("
            "plot => !plot.offsetParent || plot.querySelector('svg.main-svg'))"
        )

    def plots(self) -> list[dict[str, Any]]:
        self.unfold()
        return self.page.eval_on_selector_all(".plot", PLOTS)


@pytest.fixture(scope="module")
def files(swept: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of each sweep, and the page of all of them."""
    folder = tmp_path_factory.mktemp("pages")
    found = {task.value: folder / f"{task.value}.html" for task in Task}
    for name, path in found.items():
        write_report(swept, name, path)
    return {**found, OVERVIEW: write_overview(swept, list(found), folder / "all.html", REACHABLE)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a file; at the end nothing may have gone wrong, nothing asked from elsewhere."""
    contexts, opened = [], []

    def go(path: Path, theme: str = "light", width: int = WIDE, **more: Any) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=True, **more
        )
        contexts.append(context)
        found = Opened(context.new_page())
        opened.append(found)
        watch(found.page, found.problems, ("file:", "data:", "blob:"))
        found.page.goto(path.as_uri())
        if more.get("java_script_enabled", True):
            found.page.wait_for_selector("html[data-drawn]", state="attached")
        return found

    yield go
    for context in contexts:
        context.close()
    assert [found.problems for found in opened] == [[] for _ in opened]


@pytest.mark.parametrize(("name", "theme", "width"), LOOKS)
def test_every_section_is_drawn(
    visit: Any, files: dict[str, Path], name: str, theme: str, width: int
):
    opened = visit(files[name], theme, width)
    plots = opened.plots()
    assert {plot["section"] for plot in plots} == DRAWN
    assert [plot["key"] for plot in plots if not plot["drawn"] or not plot["marks"]] == []
    assert [plot["key"] for plot in plots if plot["wide"] > 0] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.eval_on_selector_all(".plot", COVERED) == []


@pytest.mark.parametrize("width", [pytest.param(WIDE, marks=pytest.mark.long), NARROW])
def test_every_tab_of_several_sweeps_is_drawn(visit: Any, files: dict[str, Path], width: int):
    opened = visit(files[OVERVIEW], width=width)
    for link in opened.page.query_selector_all(".tabs a"):
        link.click()
        opened.page.wait_for_timeout(200)
        plots = opened.plots()
        assert {plot["section"] for plot in plots} == DRAWN
        assert all(plot["drawn"] and plot["marks"] for plot in plots)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_narrow_page_is_folded_and_its_menu_leads_to_every_part(
    visit: Any, files: dict[str, Path]
):
    page = visit(files[OVERVIEW], "dark", NARROW).page
    page.click(".tabs a >> nth=1")
    sweep = page.locator(".sweep:not([hidden])")
    is_open = "all => all.filter(one => one.offsetParent).map(one => one.open)"
    assert page.eval_on_selector_all(".fold", is_open) == [True, False, False, False, False]
    for link in sweep.locator(".jump a").all():
        link.click()
        part = sweep.locator(link.get_attribute("href"))
        part.locator(":scope > :not(summary)").first.wait_for(state="visible")
        page.wait_for_function(
            "part => part.getBoundingClientRect().top < innerHeight", arg=part.element_handle()
        )
    assert page.eval_on_selector_all(".fold", is_open) == [True] * 5
    assert sweep.get_attribute("id") == "sweep-2-expr", "the menu leaves the tab as it is"
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW


@pytest.mark.parametrize(
    "name", ["va", *(pytest.param(name, marks=pytest.mark.long) for name in ("expr", "au"))]
)
def test_a_sweep_is_printed_whole_on_five_pages(
    visit: Any, files: dict[str, Path], swept: Store, name: str
):
    page = visit(files[name], "dark", NARROW).page
    assert 3 <= len(re.findall(rb"/Type /Page\b", page.pdf(format="A4"))) <= 5
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    data = collect(swept, name)
    found = page.eval_on_selector_all(
        "table.paper thead th.num", "all => all.map(one => +one.innerText)"
    )
    assert found == [row.number for row in data.view.rows]
    shown = page.inner_text("table.paper")
    assert all(name.rpartition(".")[2] in shown for name in data.searched)
    assert page.eval_on_selector_all(CUT, f"all => all.filter({IS_CUT}).length") == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("table.paper").is_hidden()


def test_cells_without_a_trial_are_drawn_and_distances_are_true(visit: Any, tmp_path: Path):
    rows = [
        row(n, scores=[0.5 + n / 10], params={"model.tcn.depth": x, "model.transformer.layers": y})
        for n, (x, y) in enumerate([(1, 0), (3, 4), (1, 4)])
    ]
    out = tmp_path / "grid.html"
    out.write_text(sweep_page(assemble(view(rows), "store"), datetime.now(UTC)), encoding="utf-8")
    grid = visit(out).page.locator("[data-section=grid]")
    assert grid.locator(".shapelayer path").count() == 3 * 5 - 3
    assert grid.locator(".ytick text").all_text_contents() == ["0", "1", "2", "3", "4"]


def test_the_theme_of_the_moment_is_followed(visit: Any, files: dict[str, Path]):
    opened = visit(files["va"], "light")
    colour = "document.querySelector('.plot .xtick text').style.fill"
    before = opened.page.evaluate(colour)
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_timeout(500)
    assert opened.page.evaluate(colour) != before


@pytest.mark.parametrize(
    "name", ["va", *(pytest.param(name, marks=pytest.mark.long) for name in ("expr", "au"))]
)
def test_csv_links_save_the_numbers_behind_the_figures(
    visit: Any, files: dict[str, Path], swept: Store, name: str
):
    page = visit(files[name]).page
    tables = tables_of(collect(swept, name))
    # Once each: chromium refuses the eleventh download of a page in a row.
    links = {link.get_attribute("data-table"): link for link in page.query_selector_all("a.csv")}
    assert set(links) >= {
        "trials", "epochs", "device-time", "grid", "parts", "confusion", "cost",
        "videos-over-time",
    }  # fmt: skip
    for name_of_table, link in links.items():
        table = tables[name_of_table]
        with page.expect_download() as saving:
            link.click()
        assert saving.value.suggested_filename == f"{name}-{table.file}"
        saved = Path(saving.value.path()).read_text(encoding="utf-8")
        assert _cells(saved) == _cells(table.csv()), table.name


def _cells(text: str) -> list[list[object]]:
    """Numbers are compared as such: Python and the browser write 1e-05 differently."""
    return [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(text))]


def _number(cell: str) -> object:
    try:
        return float(cell)
    except ValueError:
        return cell


@pytest.mark.parametrize(
    ("theme", "width"), [pytest.param("light", WIDE, marks=pytest.mark.long), ("dark", NARROW)]
)
def test_a_large_sweep_with_a_front_is_drawn(visit: Any, tmp_path: Path, theme: str, width: int):
    """All that the small real sweeps have none of: a front, limits, ties, seeds, failures."""
    made = made_up(Task.AU, 500)
    ranked = [r for r in made.rows if r.model]
    rows = [
        replace(
            r,
            attributes={**r.attributes, "latency_ms": 1 + r.number % 40},
            pareto=r.number % 40 == 0 or r is ranked[0],
            tied=r in ranked[1:4],
            seeds={0: 0.5, 1: 0.51} if r is ranked[0] else {},
            origin=f"other:{r.number}" if r.number % 100 == 7 else None,
            violations={"latency_ms": 2.0} if r in ranked[-5:] else {},
        )
        for r in made.rows
    ]
    whole = replace(made, rows=rows, objectives=("score", "latency"))
    data = assemble(whole, "store", validation=made_up_validation(Task.AU, (5000, 9000, 47000)))
    out = tmp_path / "large.html"
    out.write_text(sweep_page(data, datetime.now(UTC)), encoding="utf-8")
    opened = visit(out, theme, width)
    plots = opened.plots()
    assert {plot["section"] for plot in plots} == SECTIONS | {"trade-offs"}
    assert all(plot["drawn"] and plot["marks"] for plot in plots)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.eval_on_selector_all(".plot", COVERED) == []


def test_an_ablation_is_drawn(visit: Any, tmp_path: Path):
    names = ["without TCN", "without model.transformer.positions", "losses.auxiliary.expr=0.5"]
    variants = [Variant("full"), *(Variant(name, {name: 0}) for name in names)]
    trials = [
        row(number, scores=[0.6, 0.7 - 0.01 * number], attributes=of.attributes(tiny.base(), 0))
        for number, of in enumerate(variants)
    ]
    rows = [AblationRow("full", {}, (0, 1), (0.7, 0.71), parameters=9)] + [
        AblationRow(of.name, of.without, (0, 1), (0.6, 0.62), -0.095, (-0.12, 0.01), 9)
        for of in variants[1:]
    ]
    data = assemble(view(trials, name="a", kind="ablation"), "store", ablation=rows)
    out = tmp_path / "ablation.html"
    out.write_text(sweep_page(data, datetime.now(UTC)), encoding="utf-8")
    opened = visit(out, "dark", NARROW)
    plots = opened.plots()
    keys = {"ablation", "ablation-difference", "history", "device-time", "curves", "cost"}
    assert {plot["section"] for plot in plots} == keys
    assert all(plot["drawn"] and plot["marks"] for plot in plots)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW
    assert opened.page.eval_on_selector_all(".plot", COVERED) == []
    text = opened.page.inner_text("[data-section=ablation]")
    assert "without model.transformer.positions" in text
    assert "-0.1200 to +0.0100" in text


def test_text_of_the_data_is_only_text(visit: Any, swept: Store, tmp_path: Path):
    """A name that looks like a script or like Plotly's own markup neither runs nor formats."""
    evil = "</script><img src=x onerror=alert(1)><b>x</b>"
    rows = [
        row(n, scores=[n / 10], params={"a": [evil, "y", "z"][n % 3], evil: n}) for n in range(9)
    ]
    out = tmp_path / "evil.html"
    rows.append(row(9, "FAIL", reason=evil))
    text = sweep_page(assemble(view(rows, name=evil), evil), datetime.now(UTC))
    out.write_text(text, encoding="utf-8")
    page = visit(out).page
    assert page.query_selector("img") is None
    labels = page.eval_on_selector_all(".plot text", "all => all.map(one => one.textContent)")
    assert any("<b>x</b>" in label for label in labels)


def test_without_scripts_the_numbers_are_there(visit: Any, files: dict[str, Path]):
    page = visit(files["expr"], java_script_enabled=False).page
    assert page.locator(".tile-value").first.is_visible()
    assert page.locator("table.trials tbody tr").first.is_visible()
