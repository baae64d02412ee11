"""The CSV files hold exactly what is drawn; of large sweeps the page draws a part."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest

from raffect.affwild2.tasks import SPECS, Task
from raffect.report.collect import assemble
from raffect.report.data import ReportData
from raffect.report.figures.all import TABLES, Drawing, draw
from raffect.report.page import write_tables
from raffect.report.tables_of_sweep import MOST_EPOCHS, MOST_TRIALS, for_page, tables_of
from tests.report.filling import filled
from tests.report.views import made_up, made_up_validation, row, view

ALL = [pytest.param(task, id=task.value) for task in Task]
Columns = dict[str, list]


def numbers(task: Task, trials: int = 60) -> ReportData:
    return assemble(made_up(task, trials), "store", validation=made_up_validation(task))


def read(folder: Path) -> dict[str, Columns]:
    """The files as users read them: numbers where they are numbers, None where nothing is."""
    found = {}
    for path in folder.iterdir():
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        found[path.stem] = {
            name: [_cell(cells[index]) for cells in rows] for index, name in enumerate(head)
        }
    return found


def _cell(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return {"true": True, "false": False}.get(text, text) if text else None


@pytest.fixture(scope="module", params=ALL)
def made(request, tmp_path_factory) -> tuple[ReportData, Drawing, dict[str, Columns]]:
    data = numbers(request.param)
    folder = tmp_path_factory.mktemp("csv")
    write_tables(data, folder)
    return data, draw(for_page(data)), read(folder)


def trace(figure: dict, name: str, tables: dict[str, Columns]) -> dict:
    return next(t for t in filled(figure, tables)["data"] if t.get("name") == name)


def test_every_figure_s_numbers_are_in_a_file(made):
    _, drawing, files = made
    assert set(files) == {*drawing.tables}
    for key in drawing.figures:
        assert drawing.table_of(key) in files, key
    for expected in ("summary", "trials", "epochs", "videos", "failures", "videos-over-time"):
        assert expected in files
    assert set(TABLES.values()) - {"ablation"} <= set(files)


def test_figures_filled_from_the_files_are_those_filled_from_the_page(made):
    _, drawing, files = made
    page = {name: table.by_column() for name, table in drawing.tables.items()}
    for figure in drawing.figures.values():
        assert filled(figure, files) == filled(figure, page)


def test_scores_and_the_best_so_far_are_the_trials(made):
    data, drawing, files = made
    drawn = trace(drawing.figures["history"], "complete", files)
    complete = [t for t in data.trials if t.state == "COMPLETE"]
    assert drawn["x"] == [t.number for t in complete]
    assert drawn["y"] == [t.score for t in complete]
    best = trace(drawing.figures["history"], "best so far", files)["y"]
    assert best == list(data.best_so_far.values())
    assert all(a <= b for a, b in pairwise(best))


def test_device_time_ends_at_what_all_trials_took(made):
    data, drawing, files = made
    drawn = trace(drawing.figures["device-time"], "best so far", files)
    assert drawn["x"][-1] == pytest.approx(data.cost.device_seconds)
    assert drawn["y"][-1] == data.best.score


def test_curves_are_the_trials_epochs(made):
    data, drawing, files = made
    drawn = trace(drawing.figures["curves"], "pruned", files)
    points = list(zip(drawn["customdata"], drawn["x"], drawn["y"], strict=True))
    expected: list = []
    for trial in (t for t in data.trials if t.state == "PRUNED"):
        # A gap between two trials.
        expected += [([None], None, None)] if expected else []
        expected += [([trial.number], e.epoch, round(e.score, 6)) for e in trial.curve]
    assert points == expected


def test_importance_grid_parts_and_cost_are_drawn_as_written(made):
    _, drawing, files = made
    bars = drawing.figures["importance"]["data"][0]
    assert bars["x"] == files["importance"]["share"][::-1]
    shown = [tuple(spread) for _, *spread in bars["customdata"]]
    written = files["importance"]
    assert shown == list(zip(written["low"], written["high"], strict=True))[::-1]
    cells = drawing.figures["grid"]["data"][0]
    drawn = {
        (float(x), float(y)): cells["z"][j][i]
        for i, x in enumerate(cells["x"])
        for j, y in enumerate(cells["y"])
        if cells["z"][j][i] is not None
    }
    columns = list(files["grid"].values())
    written = {(x, y): score for x, y, score, _ in zip(*columns, strict=True)}
    assert drawn == written
    bars, trivial, linear, texts = drawing.figures["parts"]["data"]
    assert texts["text"] == [f"{score:.3f}" for score in files["parts"]["score"][::-1]]
    assert bars["x"] == files["parts"]["score"][::-1]
    assert trivial["x"] == files["parts"]["baseline"][::-1]
    assert linear["x"] == files["parts"]["linear_floor"][::-1]
    assert drawing.figures["cost"]["data"][0]["x"] == files["cost"]["device_seconds"][::-1]


def test_confusion_is_drawn_as_written(made):
    data, drawing, files = made
    written, traces = files["confusion"], drawing.figures["confusion"]["data"]
    if data.task is Task.AU:
        assert [t["x"] for t in traces] == [
            written[name] for name in ("true_positives", "false_negatives", "false_positives")
        ]
        return
    pairs = zip(written["true"], written["predicted"], written["share_of_true"], strict=True)
    shares = {}
    for index, (true, predicted, share) in enumerate(pairs):
        part = written["part"][index] if data.task is Task.VA else ""
        if data.task is Task.EXPR or written["frames"][index]:
            shares[part, true, predicted] = share
    drawn = {}
    maps = [t for t in traces if t["type"] == "heatmap"]
    names = SPECS[Task.VA].columns if data.task is Task.VA else ("",)
    for part, cells in zip(names, maps, strict=True):
        for j, y in enumerate(cells["y"]):
            for i, x in enumerate(cells["x"]):
                if data.task is Task.EXPR:
                    drawn[part, y, x] = cells["z"][j][i]
                elif cells["z"][j][i] is not None:
                    drawn[part, x, y] = cells["z"][j][i]
    assert drawn == shares


def test_videos_are_drawn_as_written(made):
    data, drawing, files = made
    table = files["videos-over-time"]
    for shown, key in zip(data.validation.shown, drawing.videos, strict=True):
        rows = [i for i, video in enumerate(table["video"]) if video == shown.video]
        figure = filled(drawing.figures[key], files)
        first = figure["data"][0]
        assert first["x"] == [table["frame"][i] for i in rows]
        if data.task is Task.VA:
            assert first["y"] == [table["true_valence"][i] for i in rows]
        else:
            names = SPECS[data.task].columns
            assert first["z"] == [[table[name][i] for i in rows] for name in names]
            strips = figure["data"][1]["z"]
            assert strips[::2] == [[table[f"true_{name}"][i] for i in rows] for name in names]
            assert {cell for row in strips[1::2] for cell in row} == {None}


def test_slices_and_pairs_are_drawn_as_written(made):
    data, drawing, files = made
    for name, key in [*drawing.slices, *drawing.losses]:
        figure = filled(drawing.figures[key], files)
        points = [p for t in figure["data"] for p in zip(t["x"], t["y"], strict=True)]
        written = files["trials"]
        for value, score in points:
            assert (value, score) in list(
                zip(written[f"param.{name}"], written["score"], strict=True)
            )
    assert bool(drawing.pairs) == (data.task is Task.VA)


def test_names_of_parameters_are_apart_from_those_of_trials():
    rows = [row(n, scores=[n / 10], params={"score": n, "state": str(n)}) for n in range(3)]
    columns = tables_of(assemble(view(rows), "store"))["trials"].columns
    assert columns[-2:] == ("param.score", "param.state")
    assert len(set(columns)) == len(columns)


@pytest.mark.slow
def test_a_page_draws_the_best_and_some_of_the_others():
    data = numbers(Task.VA, 2500)
    drawn = for_page(data)
    assert len(drawn.trials) == MOST_TRIALS
    assert {row.number for row in data.view.rows[:200]} <= {trial.number for trial in drawn.trials}
    numbers_drawn = [trial.number for trial in drawn.trials]
    assert numbers_drawn == sorted(numbers_drawn)
    assert max(b - a for a, b in pairwise(numbers_drawn)) <= 8
    assert drawn.counts != data.counts
    assert all(len(found.numbers) <= MOST_TRIALS for found in drawn.slices)
    assert len(tables_of(data)["trials"].rows) == 2500


def test_a_page_draws_so_many_points_of_learning_curves():
    rows = [row(n, scores=[n / 1000] * 60) for n in range(700)]
    data = assemble(view(rows), "store")
    drawn = for_page(data)
    points = sum(len(trial.curve) for trial in drawn.trials)
    assert 0.8 * MOST_EPOCHS < points <= MOST_EPOCHS
    best = {row.number for row in data.view.rows[:200]}
    assert all(trial.curve for trial in drawn.trials if trial.number in best)


def test_a_small_sweep_is_drawn_whole():
    data = numbers(Task.AU)
    assert for_page(data) == data
