"""predict --camera: what a user sees while a camera, a stream or a file runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raffect import interrupts
from raffect.affwild2.tasks import ACTION_UNIT_THRESHOLD, Task
from raffect.cli.screen import Screen
from raffect.errors import DataError
from raffect.text import duration, printable

if TYPE_CHECKING:
    from raffect.predict.live import LivePerson, LivePredictor, LiveTable, Pace
    from raffect.store import Store
    from raffect.video.camera import Arrival, Camera
    from raffect.video.faces import FaceOptions

_HALF_BAR = 12
_MOST_PERSONS = 4
_EXPRESSIONS = 3
_TEXT_EVERY_S = 1.0
_DRAW_EVERY_S = 1 / 15


@dataclass(frozen=True)
class CameraOptions:
    """What a user wants of a camera."""

    source: str
    faces: FaceOptions
    out: Path | None = None
    raw: bool = False


def watch_camera(
    store: Store, screen: Screen, models: Sequence[str], options: CameraOptions, as_json: bool
) -> None:
    """Show the values of all persons until the source ends, or its user ends it by Ctrl-C.

    Raises:
        DataError: The source breaks off or shows nothing more; or `out` can't be written.
        RaffectError: As `open_camera`, `choose` and `load_detector`.
    """
    from raffect.affwild2.csvfile import check_output
    from raffect.predict.chosen import choose
    from raffect.predict.live import LivePredictor, LiveTable
    from raffect.predict.table import check_suffix
    from raffect.predict.video import make_predictor
    from raffect.video.camera import open_camera

    options.faces.check()
    if options.out is not None:
        check_suffix(options.out, "--out", (".csv",))
        check_output(options.out)
    with open_camera(options.source) as camera:
        with screen.stage("Loading the models"):
            chosen = choose(store, models, options.raw)
            predictor = LivePredictor(make_predictor(store, chosen, options.faces))
            predictor.warm_up()
        view = _View(screen, predictor, camera, as_json)
        view.begin()
        table = None if options.out is None else LiveTable(options.out, predictor.chosen)
        # Asked between frames: no row is half written, and the terminal is left as it was.
        with interrupts.until_ctrl_c(), interrupts.deferred():
            _run(camera, predictor, view, table)
        if options.out is not None:
            screen.path(f"{options.out} written.")
        if camera.broken:
            raise DataError(
                f"{printable(camera.name)} breaks off ({camera.broken}).",
                "a camera or stream that goes on",
                "See whether a player shows it, and start again.",
            )


def _run(camera: Camera, predictor: LivePredictor, view: _View, table: LiveTable | None) -> None:
    from raffect.predict.live import Pace

    pace = Pace()
    camera.start()
    try:
        with view, table or nullcontext():
            while not camera.ended and not interrupts.received():
                arrival = camera.poll()
                if arrival is None:
                    camera.check_silence(pace.silence)
                    continue
                persons = predictor.predict(arrival.frame, arrival.skipped)
                if table is not None:
                    table.write(arrival.frame, persons)
                view.show(arrival, persons, pace)
    finally:
        view.end(pace)


class _View:
    """The values on a terminal, as a line a second where there is none, or as JSON lines."""

    def __init__(
        self, screen: Screen, predictor: LivePredictor, camera: Camera, as_json: bool
    ) -> None:
        self._screen = screen
        self._predictor = predictor
        self._camera = camera
        self._as_json = as_json
        self._now: tuple[Arrival, list[LivePerson], Pace] | None = None
        self._next = 0.0
        self._live = screen.live(self.render)

    def begin(self) -> None:
        """Say what is watched, and how late smoothing makes its values."""
        predictor, camera = self._predictor, self._camera
        detector = predictor.detector
        if detector is not None and detector.warning:
            self._screen.note(detector.warning)
        for words in predictor.chosen.describe_postprocess().values():
            self._screen.say(f"Post-processing: {words} (--raw leaves it out)")
        if predictor.lag:
            rate = camera.rate
            seconds = f", {predictor.lag / rate:.1f} s" if rate else ""
            self._screen.say(
                f"Smoothing looks back: values are of about {predictor.lag:.0f}"
                f" frames{seconds} before, beside the delay that is shown."
            )
        self._screen.say(f"Watching {printable(camera.name)}; Ctrl-C ends it.")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, arrival: Arrival, persons: list[LivePerson], pace: Pace) -> None:
        """Show a frame's values, and count its delay."""
        self._now = arrival, persons, pace
        now = time.monotonic()
        if self._as_json:
            self._screen.json(self._as_line(arrival, persons), is_line=True)
        elif now >= self._next:
            if self._live is not None:
                self._live.refresh()
            else:
                self._screen.path(self._as_text(arrival, persons, pace))
            self._next = now + (_DRAW_EVERY_S if self._live is not None else _TEXT_EVERY_S)
        pace.shown(arrival)

    def end(self, pace: Pace) -> None:
        """Say how it went; beside JSON on standard error."""
        delay, dropped = pace.delay(), self._camera.dropped
        text = (
            f"{pace.frames:,} frames in {duration(pace.seconds)}"
            f" ({pace.frames / max(pace.seconds, 1e-9):.1f}/s), delay {delay.median:.0f} ms"
            f" (95 % within {delay.p95:.0f}), {dropped:,} frames dropped"
        )
        if self._as_json:
            self._screen.note(text)
        else:
            self._screen.say(f"{text}.")

    def render(self) -> RenderableType:
        """The values of the first persons, and the pace."""
        if self._now is None:
            return Text("Waiting for the first frame ...", style="dim")
        arrival, persons, pace = self._now
        # Above the persons, of whom a low terminal shows the first ones alone.
        told = f"{arrival.frame.time:.0f} s  {self._pace_text(pace)}"
        parts: list[RenderableType] = [Text(told, style="dim")]
        widest = max(len(name) for columns in self._predictor.chosen.columns for name in columns)
        for one in persons[:_MOST_PERSONS]:
            seen = "not seen" if one.face is None else f"face {one.face.confidence:.2f}"
            parts.append(Text.assemble((f"person {one.person}", "bold"), (f"  {seen}", "dim")))
            table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
            table.add_column()
            table.add_column(min_width=widest)
            table.add_column(min_width=len("+0.00"))
            for cells in self._lines(one):
                table.add_row("", *cells)
            parts.append(table)
        if not persons:
            parts.append(Text("nobody is seen", style="dim"))
        elif len(persons) > _MOST_PERSONS:
            parts.append(Text(f"and {len(persons) - _MOST_PERSONS} more persons", style="dim"))
        return Group(*parts)

    def _lines(self, one: LivePerson) -> Iterator[tuple[RenderableType, ...]]:
        chosen = self._predictor.chosen
        for task, columns, values in zip(chosen.tasks, chosen.columns, one.values, strict=True):
            pairs = [(name, float(value)) for name, value in zip(columns, values, strict=True)]
            style = "dim" if one.face is None else "cyan"
            if task is Task.VA:
                for name, value in pairs:
                    yield name, f"{value:+.2f}", Text(signed_bar(value), style)
            elif task is Task.EXPR:
                for name, value in _largest(pairs):
                    bar = "█" * round(2 * _HALF_BAR * value)
                    yield name, f"{value:.2f}", Text(bar, style)
            else:
                yield "units", "", Text(_active(pairs), style)

    def _as_text(self, arrival: Arrival, persons: list[LivePerson], pace: Pace) -> str:
        chosen, told = self._predictor.chosen, []
        for one in persons:
            words = []
            for task, columns, values in zip(
                chosen.tasks, chosen.columns, one.values, strict=True
            ):
                pairs = [(name, float(value)) for name, value in zip(columns, values, strict=True)]
                if task is Task.AU:
                    words.append(_active(pairs))
                    continue
                some = pairs if task is Task.VA else _largest(pairs)[:1]
                form = "{} {:+.2f}" if task is Task.VA else "{} {:.2f}"
                words += [form.format(*pair) for pair in some]
            gone = " (not seen)" if one.face is None else ""
            told.append(f"person {one.person}{gone}: {', '.join(words)}")
        people = "; ".join(told) or "nobody is seen"
        how = f"  [{self._pace_text(pace)}]" if pace.frames else ""
        return f"{arrival.frame.time:.1f} s  {people}{how}"

    def _pace_text(self, pace: Pace) -> str:
        delay = pace.delay(recent=True)
        return (
            f"{pace.rate:.1f} frames/s, delay {delay.median:.0f} ms (95 % within"
            f" {delay.p95:.0f}), {self._camera.dropped:,} dropped"
        )

    def _as_line(self, arrival: Arrival, persons: list[LivePerson]) -> dict[str, object]:
        return {
            "frame": arrival.frame.number,
            "time": round(arrival.frame.time, 6),
            "delay": round(time.monotonic() - arrival.at, 4),
            "dropped": self._camera.dropped,
            "persons": [self._predictor.to_json(one) for one in persons],
        }


def signed_bar(value: float) -> str:
    """A bar from the middle, for -1 to 1: `      ███|            `."""
    length = round(_HALF_BAR * min(1.0, abs(value)))
    bar = "█" * length
    left, right = (bar, "") if value < 0 else ("", bar)
    return f"{left:>{_HALF_BAR}}│{right:<{_HALF_BAR}}"


def _largest(pairs: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(pairs, key=lambda pair: -pair[1])[:_EXPRESSIONS]


def _active(pairs: list[tuple[str, float]]) -> str:
    return " ".join(name for name, value in pairs if value >= ACTION_UNIT_THRESHOLD) or "no unit"
