"""A running sweep on the screen: one live table, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from raffect.cli.leaderboard import SETTINGS_SHOWN, setting_name
from raffect.text import duration, score_text, short_value

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.progress import Glance, RunningTrial, Standing, SweepProgress

_MOST_SETTINGS = 5
_LINE_EVERY_S = 2.0
"""Least time between plain lines; a new best and a failure are always told."""


class SweepTable:
    """Shows a sweep while it runs, under a title such as `VA sweep 'va'`; a context manager."""

    def __init__(self, screen: Screen, title: str) -> None:
        from raffect.sweep.progress import RunningSweep

        self._screen = screen
        self._title = title
        self._sweep = RunningSweep()
        self._told = 0.0
        self._best: float | None = None
        self._spinner = Spinner("dots")
        self._live = screen.live(self.render)

    def __enter__(self) -> SweepTable:
        if self._live is not None:
            self._live.start()
        else:
            self._screen.styled(f"[dim]… {escape(self._title)}[/]")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._screen.path(text)

    def update(self, progress: SweepProgress) -> None:
        """Take in what happened."""
        self._sweep.add(progress)
        if progress.note and progress.event == "finished":
            self.say(f"trial {progress.trial}: continued with {progress.note}")
        if self._live is None:
            self._tell(progress)

    def _tell(self, progress: SweepProgress) -> None:
        if progress.event != "finished":
            return
        news = progress.best != self._best or progress.state == "FAIL"
        self._best = progress.best
        if not news and time.monotonic() - self._told < _LINE_EVERY_S:
            return
        self._told = time.monotonic()
        count = f"{datetime.now():%H:%M:%S}  {progress.finished}/{progress.target}"
        self._screen.path(f"{count}  {progress.describe()}{_left(progress.seconds_left)}")

    def render(self) -> RenderableType:
        """The table as it is now."""
        return sweep_table(self._spinner, self._title, self._sweep.glance())


def sweep_table(spinner: Spinner, title: str, glance: Glance | None) -> RenderableType:
    """A running sweep, here or on a cluster: how far, how fast, how good, and what runs."""
    head = Table.grid(padding=(0, 1))
    if glance is None:
        head.add_row(spinner, Text(title))
        return head
    last = glance.standing
    bar = ProgressBar(total=last.target, completed=last.ended, width=24)
    head.add_row(spinner, Text(title), bar, f"{last.ended}/{last.target}", _pace(glance))
    lines: list[RenderableType] = [head, _states(last)]
    if (first := glance.ahead) is not None:
        lines.append(_best_line(first.score, f"{first.trial}, running", {}))
    elif last.best is not None:
        lines.append(_best_line(last.best, last.best_trial, last.best_params))
    lines += [_running_line(glance, one) for one in glance.running]
    if glance.more:
        lines.append(Text(f"  and {glance.more} more", style="dim"))
    return Group(*lines)


def _pace(glance: Glance) -> Text:
    rate = f" · {glance.standing.rate:,.0f} trials/h" if glance.standing.rate else ""
    return Text(f"{duration(glance.seconds)}{rate}{_left(glance.seconds_left)}", style="dim")


def _left(left: float | None) -> str:
    return f" · about {duration(left)} left" if left else ""


def _states(last: Standing) -> Text:
    from raffect.sweep.attributes import STATE_NAMES

    found = [f"{count} {STATE_NAMES[state]}" for state, count in last.states.items() if count]
    return Text(f"  {', '.join(found)} · {last.device_hours:.2f} h device time", style="dim")


def _best_line(best: float | None, trial: object, params: Mapping[str, Any]) -> Text:
    shown = [key for key in params if key.startswith(SETTINGS_SHOWN)][:_MOST_SETTINGS]
    chosen = ", ".join(f"{setting_name(key)} {short_value(params[key])}" for key in shown)
    return Text.assemble("  best ", (score_text(best), "bold"), f" (trial {trial})  {chosen}")


def _running_line(glance: Glance, one: RunningTrial) -> Text:
    score = "" if one.score is None else f"  {one.score:.4f}"
    score += ", the best so far" if one is glance.ahead else ""
    return Text(f"  trial {one.trial}: epoch {one.epoch} of {one.epochs}{score}", style="dim")
