"""The leaderboard on a terminal: whole at any width, with how sure its scores are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from raffect.cli.leaderboard import show_leaderboard
from raffect.cli.screen import Screen
from raffect.store import Store
from raffect.sweep.leaderboard import SweepView
from raffect.text import duration
from tests.report.views import view
from tests.sweep.test_evidence import leave

PARAMS = {
    "model.tcn.depth": 3,
    "model.transformer.layers": 8,
    "optimiser.lr": 0.000123,
    "losses.valence_share": 0.5,
}


def shown(capsys: pytest.CaptureFixture[str], made: SweepView, width: int) -> list[str]:
    screen = Screen()
    screen.console = Console(width=width, highlight=False)
    show_leaderboard(screen, made)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


@pytest.fixture
def judged(store: Store) -> SweepView:
    rows, _ = leave(store)
    floor = {"score": 0.6, "parts": {}, "half_width": 15}
    rows = [replace(row, params=PARAMS) for row in rows]
    return view(rows, store=store, linear_floor=floor)


ALL = ["trial", "score", "95 % interval", "against recipe", "epoch", "state"]
SETTINGS = ["TCN depth", "layers", "lr", "valence share", "time"]


@pytest.mark.parametrize(
    ("width", "left"),
    [
        (40, ["95 % interval", "against recipe", "epoch", "layers", "lr", *SETTINGS[3:]]),
        (60, ["against recipe", "lr", "valence share", "time"]),
        (80, ["against recipe", "valence share", "time"]),
        (100, ["valence share", "time"]),
        (120, []),
    ],
)
def test_no_number_is_cut_and_the_least_important_columns_give_way(
    judged: SweepView, capsys: pytest.CaptureFixture[str], width: int, left: list[str]
) -> None:
    lines = shown(capsys, judged, width)
    for number, row in enumerate(judged.rows):
        line = next(line.split("  ") for line in lines if line.split()[:1] == [str(number)])
        known = judged.evidence.trials[number]
        low, high = known.interval
        assert row.score is not None
        below = "<" if row.score < 0.6 else ""
        versus = "–"
        if known.versus_recipe is not None:
            less, more = known.versus_recipe.interval
            versus = f"{known.versus_recipe.difference:+.3f} ({less:+.3f}, {more:+.3f})"
        whole = [str(number), f"{row.score:.4f}{below}", f"{low:.3f}–{high:.3f}", versus, "2/2"]
        whole += ["complete", "3", "8", "0.000123", "0.5", duration(row.seconds)]
        cells = dict(zip([*ALL, *SETTINGS], whole, strict=True))
        found = [cell.strip() for cell in line if cell.strip()]
        assert found == [cell for name, cell in cells.items() if name not in left]
    told = "Columns left out at this width:"
    if left:
        assert f"{told} {', '.join(left)}." in " ".join(lines)
    else:
        assert told not in " ".join(lines)


def test_the_best_score_and_what_is_expected_of_it(
    judged: SweepView, capsys: pytest.CaptureFixture[str]
) -> None:
    said = " ".join(shown(capsys, judged, 100))
    best, expected = judged.rows[0], judged.evidence.expected
    share = judged.evidence.trials[0].probability_best
    assert f"Best: {best.score:.4f} ({expected:.4f} expected on new videos); trial 0" in said
    assert f"{share:.0%} of 1,000 resamples of the 12 validation videos;" in said
    below = sum((row.score or 0) < 0.6 for row in judged.rows)
    assert below
    assert f"Scores below it ({below}) are marked <." in said


def test_the_score_before_post_processing_has_a_column(
    judged: SweepView, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "raw" not in " ".join(shown(capsys, judged, 100))
    curve = [replace(epoch, raw=0.1234) for epoch in judged.rows[0].curve]
    made = replace(judged, rows=[replace(judged.rows[0], curve=curve), *judged.rows[1:]])
    lines = shown(capsys, made, 80)
    assert any("0.1234" in line for line in lines)


def test_without_sums_it_says_why(judged: SweepView, capsys: pytest.CaptureFixture[str]) -> None:
    judged.store.delete("sweeps/s")  # type: ignore[union-attr]
    made = replace(judged, rows=[replace(row, files=()) for row in judged.rows])
    said = " ".join(shown(capsys, made, 80))
    assert "No intervals: the best trial kept no sums per video" in said
    assert "95 %" not in said


def test_text_wraps_and_an_empty_table_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.console = Console(width=30)
    assert screen.table([">number", "text"], [["0.123456789", "long " * 12]]) == []
    assert screen.table([">a", "b"], []) == []
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 30
    assert "0.123456789" in "\n".join(lines)
    assert "\n".join(lines).count("long") == 12
