"""A running sweep on a terminal and in a log."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from raffect.cli.progress import SweepTable
from raffect.cli.screen import Screen
from raffect.sweep.progress import RunningSweep, SweepProgress


def happened(**more: Any) -> SweepProgress:
    told: dict[str, Any] = {
        "event": "epoch",
        "trial": 12,
        "epoch": 3,
        "epochs": 30,
        "score": 0.6123,
        "state": "RUNNING",
        "reason": None,
        "finished": 11,
        "target": 100,
        "best": 0.8074,
        "best_trial": 7,
        "best_params": {
            "model.tcn.depth": 2,
            "model.transformer.layers": 1,
            "model.head_dropout": 0.31,
            "optimiser.lr": 0.0003141592,
            "losses.valence_share": 0.5,
            "losses.mse_share": 0.25,
        },
        "states": {"COMPLETE": 4, "PRUNED": 6, "FAIL": 1, "RUNNING": 2},
        "seconds": 480.0,
        "rate": 82.5,
        "device_hours": 0.42,
    }
    return SweepProgress(**{**told, **more})


def shown(table: SweepTable) -> list[str]:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(table.render())
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_table_says_how_far_how_fast_and_how_good() -> None:
    table = SweepTable(Screen(quiet=True), "Sweeping VA")
    table.update(happened(trial=13, epoch=1, score=0.2))
    table.update(happened())
    lines = shown(table)
    assert "11/100" in lines[0]
    assert lines[0].endswith("8 min 00 s · 82 trials/h · about 1 h 04 min left")
    assert lines[1] == "  4 complete, 6 pruned, 1 failed, 2 running · 0.42 h device time"
    assert lines[2] == (
        "  best 0.8074 (trial 7)  TCN depth 2, layers 1, lr 0.000314, valence share 0.5,"
        " mse share 0.25"
    )
    assert lines[3:] == ["  trial 13: epoch 1 of 30  0.2000", "  trial 12: epoch 3 of 30  0.6123"]
    assert max(map(len, lines)) <= 100


def test_the_clock_goes_on_between_two_events() -> None:
    now = [100.0]
    table = SweepTable(Screen(quiet=True), "Sweeping VA")
    table._sweep = RunningSweep(lambda: now[0])
    table.update(happened())
    now[0] += 125
    assert shown(table)[0].endswith("10 min 05 s · 82 trials/h · about 1 h 02 min left")
    now[0] += 100_000
    assert "left" not in shown(table)[0]


def test_a_running_trial_may_be_the_best_so_far() -> None:
    table = SweepTable(Screen(quiet=True), "Sweeping VA")
    table.update(happened(trial=13, score=0.81))
    table.update(happened(trial=14, score=0.82))
    lines = shown(table)
    assert lines[2] == "  best 0.8200 (trial 14, running)"
    assert [line.endswith("the best so far") for line in lines[3:]] == [False, True]
    table.update(happened(event="finished", trial=14, best=0.82, best_trial=14))
    assert shown(table)[2].startswith("  best 0.8200 (trial 14)  TCN depth 2")


def test_before_the_first_event_the_table_says_what_begins() -> None:
    assert "Sweeping VA" in shown(SweepTable(Screen(quiet=True), "Sweeping VA"))[0]


def test_many_running_trials_are_cut() -> None:
    table = SweepTable(Screen(quiet=True), "Sweeping VA")
    for number in range(20):
        table.update(happened(trial=number))
    table.update(happened(trial=3, event="finished", state="PRUNED"))
    lines = shown(table)
    assert lines[-1] == "  and 11 more"
    assert not any("trial 3:" in line for line in lines)


def test_a_log_gets_a_line_for_news_and_few_for_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SweepTable(Screen(), "Sweeping VA") as table:
        for number in range(50):
            table.update(happened(event="started", trial=number))
            table.update(happened(event="finished", trial=number, state="PRUNED"))
        table.update(happened(event="finished", trial=77, state="FAIL", reason="nan: The loss."))
        better = {"event": "finished", "trial": 78, "state": "COMPLETE", "best": 0.9}
        table.update(happened(**better, note="half a batch at a time"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "… Sweeping VA"
    assert 4 <= len(lines) <= 6
    news = "  11/100  trial 77: nan: The loss., score 0.6123; best 0.8074"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", lines[-3][:8]), "a log says when"
    assert lines[-3][8:].startswith(news)
    assert lines[-2] == "trial 78: continued with half a batch at a time"
    assert "best 0.9000" in lines[-1]
