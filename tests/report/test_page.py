"""The page: whole, self-contained, escaped, the same for the same numbers."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from raffect.affwild2.tasks import Task
from raffect.report import page as page_module
from raffect.report.collect import assemble
from raffect.report.data import Ancestor, ReportData
from raffect.report.figures.style import DARK, LIGHT
from raffect.report.page import (
    overview_page,
    sweep_page,
    with_reachable,
    write_overview,
    write_report,
)
from raffect.report.tables_of_sweep import tables_of
from raffect.store import Store
from tests.report.filling import filled
from tests.report.views import made_up, made_up_validation, row, view
from tests.sweep.test_evidence import leave

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LINEAGE = (Ancestor("dataset", "a" * 64, "2026-11-20T10:00:00+00:00", "same"),)
REACHABLE = {Task.VA: 0.8, Task.EXPR: 0.6, Task.AU: 0.7}
HEADINGS = (
    "Where the best trial stands",
    "Leaderboard",
    "Scores over the sweep",
    "Scores by device time",
    "Learning curves",
    "Which parameters mattered",
    "All parameters at once",
    "Score against each parameter",
    "Weights of the loss",
    "TCN depth and Transformer layers",
    "What the best score is made of",
    "Failures",
    "True and predicted values",
    "Cost",
    "Videos over time",
    "Lineage",
    "Use it",
)
EDGES = {
    "no trials": [],
    "one trial": [row(0, "COMPLETE", [0.4], {"a.b": 1})],
    "only failed": [row(n, "FAIL", reason="nan: x") for n in range(3)],
    "failed late": [row(n, "FAIL", [0.1, 0.2], reason="nan: x") for n in range(9)],
    "only waiting": [row(0, "WAITING", params={"a.b": 1})],
    "only running": [row(0, "RUNNING", [0.1], {"a.b": 1})],
    "a score of zero": [row(n, "COMPLETE", [0.0], {"a": n}) for n in range(9)],
    "a negative score": [row(0, "COMPLETE", [-0.2, -0.1], {"a": None})],
    "no parameters": [row(n, "COMPLETE", [n / 10]) for n in range(9)],
    "odd parameters": [
        row(n, "COMPLETE", [n / 10], {"a": [1, n], "b": n % 2 == 0, "c": None if n else "x"})
        for n in range(9)
    ],
    "a state of its own": [
        row(n, "COMPLETE", [n / 10], {"x": n if n % 2 else "text"}) for n in range(9)
    ],
}


class Page(HTMLParser):
    """What the tests want to know of a page; fails where elements do not nest."""

    VOID = {"meta", "br", "img", "hr", "input", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def json(self) -> dict[str, dict]:
        kept = [(a, t) for a, t in self.scripts if a.get("type") == "application/json"]
        return {str(attributes["id"]): json.loads(text) for attributes, text in kept}

    def figures(self) -> dict[str, dict]:
        """The figures, with the numbers that they name."""
        found = self.json()
        plots = [a for _, a in self.elements if a.get("class") == "plot"]
        return {
            str(a["data-figure"]): filled(
                found[str(a["data-figure"])], found[str(a["data-tables"])]
            )
            for a in plots
        }

    def all_text(self) -> str:
        return " ".join(" ".join(self.text).split())


def numbers(task: Task = Task.VA, trials: int = 50, finished: bool = True) -> ReportData:
    made = made_up(task, trials, finished=finished)
    return assemble(made, "s3://b/p", None, LINEAGE, validation=made_up_validation(task))


def overview() -> str:
    found = [with_reachable(numbers(task, 12), REACHABLE) for task in Task]
    found[0] = replace(found[0], baseline=0.01)
    return overview_page(found, NOW, ["A note on <sizes>."])


@pytest.fixture(scope="module")
def one() -> str:
    return sweep_page(numbers(), NOW)


@pytest.fixture(scope="module")
def three() -> str:
    return overview()


def test_every_section_is_there(one: str):
    text = Page(one).all_text()
    for heading in HEADINGS:
        assert heading in text, heading
    assert "chosen on that same set" in text
    assert f"raffect predict sweeps/va:{numbers().best_number} --split validation" in text
    assert "95 % interval 0." in text
    assert "bootstrap over the 4 validation videos" in text
    assert "Synthetic data" not in text


def test_the_overview_has_every_sweep_beside_its_floor_and_ceiling(three: str):
    page = Page(three)
    text = page.all_text()
    for words in ("At a glance", "Valence and arousal", "Expressions", "Action units"):
        assert words in text
    assert "0.8000" in text
    assert "0.0100" in text
    assert "Synthetic data" in text
    assert "A note on <sizes>." in text
    links = {a["href"] for tag, a in page.elements if tag == "a"}
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert {link[1:] for link in links if link} <= set(ids)
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched(one: str, three: str):
    for text in (one, three):
        for tag, attributes in Page(text).elements:
            assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
            assert not {"src", "srcset", "data", "poster", "background"} & set(attributes)
            if tag == "a":
                assert (attributes["href"] or "").startswith("#")
        styles = "".join(re.findall(r"<style>.*?</style>", text, re.DOTALL))
        assert "url(" not in styles
        assert "@import" not in styles
        assert "default-src 'none'" in text


def test_the_page_is_small(three: str):
    assert len(three.encode()) < 6_000_000


@pytest.mark.parametrize("trials", [500, 3000])
@pytest.mark.slow
def test_the_page_of_a_large_sweep_is_small_and_soon_written(trials: int):
    data = numbers(Task.EXPR, trials)
    began = time.monotonic()
    text = sweep_page(data, NOW)
    assert time.monotonic() - began < 10
    assert len(text.encode()) < 6_000_000
    told = "The figures show 1,000 of 3,000 trials" in text
    assert told == (trials > 1000)
    assert (f"{trials - 200} more trials are in no table here" in text) == (trials > 200)


def test_the_same_numbers_give_the_same_page(three: str):
    assert overview() == three
    later = sweep_page(numbers(), datetime(2027, 1, 1, tzinfo=UTC))
    assert re.sub(r"<time.*?</time>", "", later) == re.sub(
        r"<time.*?</time>", "", sweep_page(numbers(), NOW)
    )


def test_the_leaderboard_has_the_ten_best_and_then_the_rest(one: str):
    data = numbers()
    body = one[one.index("Leaderboard</h3>") : one.index("Scores over the sweep</h3>")]
    shown = [int(n) for n in re.findall(r"</i> (\d+)</th><td", body)]
    assert shown == [row.number for row in data.view.rows]
    assert "The other 40 trials" in body
    best = data.best
    assert best is not None
    assert f"{best.score:.4f}" in body


@pytest.mark.parametrize("name", EDGES)
def test_odd_sweeps_have_a_page(name: str):
    data = assemble(view(EDGES[name], target=9), "store")
    text = Page(sweep_page(data, NOW)).all_text()
    for heading in HEADINGS[1:]:
        assert heading in text, heading
    assert "nan" not in text.replace("nan x", "").lower().split()


def test_a_sweep_that_has_not_ended_says_so():
    text = Page(sweep_page(numbers(trials=5, finished=False), NOW)).all_text()
    assert "5 of 15 trials have" in text
    assert "Needs 31 more finished trials: there are 5 of 36" in text


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED"])
def test_the_best_is_compared_with_a_whole_recipe_or_not_at_all(state: str):
    first = row(0, state, [0.31, 0.32], params={"a": 1}, recipe=True)
    data = assemble(view([first, row(1, scores=[0.5], params={"a": 2})]), "store")
    text = " ".join(Page(sweep_page(data, NOW)).all_text().split())
    if state == "COMPLETE":
        assert "Base settings 0.3200 trial 0" in text
        assert "Best 0.5000 against 0.3200 of the recipe (trial 0): +0.1800." in text
    else:
        assert "Base settings" not in text
        assert "the recipe (trial 0) was stopped at 2 of 40 epochs" in text


def test_missing_parts_are_named():
    data = replace(
        numbers(),
        baseline=None,
        reachable=None,
        lineage=(),
        parts=(),
        grid=None,
        validation=None,
        not_validated="The model is gone.",
    )
    text = Page(sweep_page(data, NOW)).all_text()
    for words in ("not recorded", "no record of what", "No trial has a score with parts"):
        assert words in text
    assert text.count("The model is gone.") == 3
    assert "95 % interval" not in text
    assert "Linear floor 0.2000 ridge on means of the features over 31 frames" in text
    without = replace(data, view=replace(data.view, linear_floor=None))
    assert "inear floor" not in Page(sweep_page(without, NOW)).all_text()


def test_what_is_special_about_a_trial_is_said_in_the_leaderboard():
    rows = [
        row(0, scores=[0.5], params={"a": 1}, seeds={0: 0.5, 1: 0.46, 2: 0.48}, pareto=True),
        row(1, scores=[0.49], params={"a": 2}, tied=True, origin="other:7"),
        row(2, scores=[0.7], params={"a": 3}, violations={"latency_ms": 1.5}),
        row(3, scores=[0.1], params={"a": 4}, attributes={"accumulation": 4, "latency_ms": 3.0}),
    ]
    text = Page(sweep_page(assemble(view(rows), "store"), NOW)).all_text()
    for words in ("tied", "front", "from other:7", "over latency_ms", "4 parts", "Latency, ms"):
        assert words in text, words
    assert "0.4800 ± 0.0200 over 3 seeds of trial 0" in text
    assert "1 more from other sweeps" in text


def test_a_sweep_of_two_objectives_shows_its_front():
    rows = [
        row(n, scores=[n / 10], params={"a": n}, pareto=n > 2, attributes={"latency_ms": n + 1.0})
        for n in range(5)
    ]
    data = assemble(view(rows, objectives=("score", "latency")), "store")
    page = Page(sweep_page(data, NOW))
    assert "Trade-offs" in page.all_text()
    figure = page.figures()["sweep-1-va-figure-trade-off-0"]
    front = next(trace for trace in figure["data"] if trace.get("name") == "Pareto front")
    assert (front["x"], front["y"]) == ([4.0, 5.0], [0.3, 0.4])


def test_a_sweep_whose_budget_was_spent_says_so():
    data = assemble(view([row(0, scores=[0.1])], ended="2.00 of 2 hours are spent"), "store")
    text = Page(sweep_page(data, NOW)).all_text()
    assert "ended before all of its trials were run: 2.00 of 2 hours are spent." in text


def test_the_library_is_packed_whole(one: str):
    packed = next(text for a, text in Page(one).scripts if a.get("id") == "plotly")
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_every_value_is_escaped():
    evil = '</script><script>alert(1)</script><b a="\'">&'
    rows = [
        row(0, "COMPLETE", [0.4], {evil: evil, "p": 1}, parts=[{evil: 0.4}]),
        row(1, "COMPLETE", [0.3], {evil: "other", "p": 2}),
        row(2, "FAIL", reason=evil),
    ]
    data = assemble(view(rows, name=evil), evil, None, (Ancestor(evil, evil, evil, "changed"),))
    page = Page(sweep_page(data, NOW))
    # Plotly, the page's own script, the tables, and one for each figure: no name became a script.
    figures = page.figures()
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 3 + len(figures)
    assert "b" not in {tag for tag, _ in page.elements}
    labels = json.dumps(figures)
    assert "alert" in labels
    assert "<b a=" not in labels


def resolve(figure: dict, palette: dict[str, str]) -> dict:
    text = json.dumps(figure)
    found = re.sub(r'"var\(--([a-z0-9-]+)\)"', lambda m: json.dumps(palette[m[1]]), text)
    assert "var(" not in found
    return json.loads(found)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_plotly_knows_every_property_of_every_figure(three: str, palette: dict[str, str]):
    figures = Page(three).figures()
    assert len(figures) > 30
    for figure in figures.values():
        go.Figure(resolve(figure, palette))


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting is tested with a real study; here the numbers are made up."""
    monkeypatch.setattr(page_module, "collect", lambda store, name: numbers(Task(name), 5))


@pytest.mark.usefixtures("stubbed")
def test_a_report_lies_in_the_sweep_s_folder(store: Store):
    assert write_report(store, "va") == f"{store.uri}/sweeps/va/report.html"
    assert b"Where the best trial stands" in store.read_bytes("sweeps/va/report.html")


@pytest.mark.usefixtures("stubbed")
def test_a_report_can_be_a_local_file(store: Store, tmp_path: Path):
    out, notes = tmp_path / "new" / "r.html", []
    assert write_report(store, "expr", out, on_note=notes.append) == str(out)
    assert [note.partition(" more")[0] for note in notes] == [
        "Importance of the parameters: Needs 27"
    ]
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]
    assert not store.exists("sweeps/expr/report.html")


@pytest.mark.usefixtures("stubbed")
def test_its_numbers_can_be_files_beside_it(store: Store, tmp_path: Path):
    write_report(store, "au", tmp_path / "r.html", tmp_path / "csv")
    assert {path.suffix for path in (tmp_path / "csv").iterdir()} == {".csv"}
    text = (tmp_path / "csv" / "trials.csv").read_text(encoding="utf-8")
    assert text.startswith("trial,state,score,")
    assert len(text.splitlines()) == 6


@pytest.mark.usefixtures("stubbed")
def test_an_overview_is_a_local_file(store: Store, tmp_path: Path):
    out = tmp_path / "all.html"
    assert write_overview(store, ["va", "au"], out, REACHABLE) == out
    text = Page(out.read_text(encoding="utf-8")).all_text()
    assert "Action units" in text
    assert "Expressions" not in text


def test_how_much_of_the_gap_is_closed():
    data = replace(with_reachable(numbers(), {Task.VA: 0.5}), baseline=0.1)
    best = data.best
    assert best is not None
    assert best.score is not None
    assert data.gained == pytest.approx((best.score - 0.1) / 0.4)
    assert replace(data, reachable=0.1).gained is None


def test_how_sure_the_scores_are_is_on_the_page_and_in_the_tables(store: Store) -> None:
    rows, _ = leave(store)
    floor = {"score": 0.6, "parts": {}, "half_width": 15}
    data = assemble(view(rows, store=store, linear_floor=floor), "store")
    evidence = data.view.evidence
    page = sweep_page(data, NOW)
    assert evidence.expected is not None
    assert f"Expected on new videos {evidence.expected:.4f}" in Page(page).all_text()
    known = evidence.trials[1]
    low, high = known.interval
    assert f"{low:.3f}–{high:.3f}" in page
    assert known.versus_recipe is not None
    assert f"{known.versus_recipe.difference:+.3f}" in page
    # On the screen and on paper.
    assert page.count("below the floor") == 2 * sum((row.score or 0) < 0.6 for row in rows)
    tables = tables_of(data)
    summary = dict(tables["summary"].rows)
    assert summary["expected"] == evidence.expected
    columns = tables["trials"].by_column()
    assert columns["interval_low"] == [evidence.trials[n].interval[0] for n in range(5)]
    assert columns["versus_recipe"][-1] is None
    assert columns["probability_best"] == [evidence.trials[n].probability_best for n in range(5)]
    without = sweep_page(assemble(view(rows), "store"), NOW)
    assert "xpected on new videos" not in without
    assert "Best in" not in without
