"""What a person sees: stages, one progress bar at a time, tables as wide as the terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.table import Column, Table
from rich.text import Text

from raffect.text import duration

if TYPE_CHECKING:
    from raffect.store import Manifest

WIDTH = 100
"""Columns of prose at most, and of everything where nobody says how wide it may be."""
_GAP = 2
"""Blanks between the columns of a table."""
_LONG_WORD = 12


class Screen:
    """Where a command prints: nothing when quiet (errors go elsewhere), only JSON for scripts."""

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.silent = quiet or as_json
        # A terminal's width, which COLUMNS overrides.
        told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
        width = Console().width if told else WIDTH
        self.began = datetime.now(UTC).isoformat(timespec="seconds")
        self.console = Console(width=width, quiet=self.silent, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, width=min(WIDTH, self.console.width))

    def styled(self, text: str) -> None:
        """Print a line of rich's markup; what is not ours in it must be escaped."""
        self.console.print(text, width=min(WIDTH, self.console.width))

    def path(self, text: str) -> None:
        """Print a path or a command on one line of its own, however long, ready to be copied."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def note(self, text: str) -> None:
        """Say on standard error what a reader of the output must know, beside JSON too."""
        if not self.quiet:
            sys.stderr.write(f"Note: {text}\n")

    def live(self, render: Callable[[], RenderableType]) -> Live | None:
        """A part of the screen that is redrawn, not started yet; None if there is none to see."""
        if not self.console.is_terminal or self.silent:
            return None
        return Live(
            get_renderable=render, console=self.console, refresh_per_second=4, transient=True
        )

    def ready(self, where: str, manifest: Manifest) -> None:
        """Say where a stage's result is, and whether an earlier command made it."""
        before = manifest.created < self.began
        state = "was finished before: nothing to do" if before else "is ready"
        self.path(f"{where} {state}.")

    def json(self, value: Any, is_line: bool = False) -> None:
        """Print JSON on standard output, also when quiet; as one line of several at once."""
        # Other encodings would lose characters.
        is_utf8 = (sys.stdout.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")
        indent = None if is_line else 1
        sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=not is_utf8) + "\n")
        if is_line:
            sys.stdout.flush()

    def table(
        self,
        columns: list[str],
        rows: Sequence[Sequence[str | Text]],
        spare: Sequence[str] = (),
    ) -> list[str]:
        """Print a table; of the columns in `spare` the first ones that don't fit are left out.

        Columns whose name starts with `>` are numbers, aligned to the right, and those with `=`
        names: neither is ever cut.

        Returns:
            The names of the columns that are left out, in the order of the table.
        """
        titles = [name.lstrip(">=") for name in columns]
        least, whole = [], []
        for at, title in enumerate(titles):
            cells = [str(row[at]) for row in rows]
            # Heads and text wrap between words, long words anywhere; a number is whole.
            words = [word[:_LONG_WORD] for cell in cells for word in cell.split()]
            kept = cells if columns[at][0:1] in (">", "=") else words
            least.append(max(map(len, [*title.split(), *kept]), default=0))
            whole.append(max(map(len, [title, *cells])))
        room, shown = self.console.width + _GAP, list(range(len(columns)))
        for name in spare:
            if sum(least[at] + _GAP for at in shown) > room:
                shown.remove(titles.index(name))
        tight = sum(whole[at] + _GAP for at in shown) > room
        table = Table(box=None, pad_edge=False, header_style="dim")
        for at in shown:
            numeric = columns[at].startswith(">")
            table.add_column(
                fill(titles[at], least[at]) if numeric and tight else titles[at],
                justify="right" if numeric else "left",
                overflow="fold",
                min_width=least[at],
                no_wrap=numeric,
            )
        for row in rows:
            cells_shown = (row[at] for at in shown)
            table.add_row(*(Text(c) if isinstance(c, str) else c for c in cells_shown))
        self.console.print(table)
        return [title for at, title in enumerate(titles) if at not in shown]

    @contextmanager
    def stage(self, title: str) -> Iterator[Stagebar]:
        """Show a stage: a bar while it runs, one line with its time when it is done."""
        bar = Stagebar(title, self)
        with bar.progress:
            yield bar
        note = f"  {bar.note}" if bar.note else ""
        done = (f"{note}  {bar.seconds:.1f} s", "dim")
        self.console.print(Text.assemble(("✓", "green"), f" {title}", done))


class _PaceColumn(ProgressColumn):
    """Time that a stage has taken, its rate, and about how long it will take."""

    def render(self, task: Task) -> Text:
        """See `pace_text`."""
        return Text(pace_text(task.elapsed or 0.0, task.speed, task.time_remaining), style="dim")


def pace_text(seconds: float, rate: float | None, left: float | None) -> str:
    """`12 s · 1,024/s · about 3 min 20 s left`; the rate per minute where it is below one."""
    text = duration(seconds)
    if rate:
        text += f" · {rate:,.0f}/s" if rate >= 1 else f" · {60 * rate:.1f}/min"
    return f"{text} · about {duration(left)} left" if left else text


class Stagebar:
    """The bar of one stage; `tick(done, total)` moves it, `note` is kept beside its line."""

    def __init__(self, title: str, screen: Screen) -> None:
        self.note = ""
        self.began = time.monotonic()
        live = screen.console.is_terminal and not screen.silent
        if not live:
            screen.console.print(Text(f"… {title}", "dim"))
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            _PaceColumn(),
            # The first that gives way on a narrow terminal.
            TextColumn(
                "{task.fields[note]}",
                style="dim",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=screen.console,
            transient=True,
            disable=not live,
        )
        self._task = self.progress.add_task(title, total=None, note="")

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self.began

    def tick(self, done: int, total: int | None) -> None:
        """Show how much of the stage is done, of how much if that is known."""
        self.progress.update(self._task, completed=done, total=total)

    def tell(self, note: str) -> None:
        """Show a short note beside the bar, and keep it beside the finished line."""
        self.note = note
        self.progress.update(self._task, note=note)
