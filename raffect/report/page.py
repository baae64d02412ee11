"""One self-contained HTML file from the numbers of one sweep or of several."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raffect import __version__
from raffect.affwild2.tasks import Task
from raffect.context import OnNote
from raffect.report.collect import collect
from raffect.report.data import ReportData
from raffect.report.figures.style import DARK, LIGHT, declarations
from raffect.report.sections import WORDS, describe
from raffect.report.tables import write_whole
from raffect.report.tables_of_sweep import tables_of
from raffect.store import Store, sweep_folder
from raffect.store.layout import REPORT
from raffect.sweep.attributes import STATE_NAMES
from raffect.text import count_text, duration, numbers_text, score_text, short_value

_HERE = Path(__file__).parent


def write_report(
    store: Store,
    sweep: str,
    out: Path | None = None,
    tables: Path | None = None,
    on_note: OnNote | None = None,
) -> str:
    """Write the report of one sweep; returns where it is.

    Without a local file `out` it is `report.html` in the sweep's folder of the store. `tables` is
    a local folder for the numbers of all trials as CSV files. `on_note` is told what can't be
    shown yet of the parameters' importance.

    Raises:
        NotThereError: The store holds no such sweep.
        StoreError: The store can't be read or written.
    """
    data = collect(store, sweep)
    if tables is not None:
        write_tables(data, tables)
    if on_note is not None and data.importance.missing and not data.ablation:
        on_note(f"Importance of the parameters: {data.importance.missing}")
    page = sweep_page(data, datetime.now(UTC))
    if out is not None:
        return str(write_whole(out, page))
    key = f"{sweep_folder(sweep)}/{REPORT}"
    store.write_bytes(key, page.encode())
    return store.where(key)


def write_tables(data: ReportData, folder: Path) -> list[Path]:
    """Write the numbers of one sweep as CSV files; returns them."""
    return [write_whole(folder / table.file, table.csv()) for table in tables_of(data).values()]


def write_overview(
    store: Store,
    sweeps: Sequence[str],
    out: Path,
    reachable: Mapping[Task, float],
    notes: Sequence[str] = (),
) -> Path:
    """Write one page for several sweeps on synthetic data; returns the file.

    `reachable` is the best reachable score by task, which no store knows; `notes` are shown at
    the top.

    Raises:
        NotThereError: The store holds no such sweep.
        StoreError: The store can't be read.
    """
    pages = [with_reachable(collect(store, name), reachable) for name in sweeps]
    return write_whole(out, overview_page(pages, datetime.now(UTC), notes))


def with_reachable(data: ReportData, reachable: Mapping[Task, float]) -> ReportData:
    """The numbers with the best reachable score of their task; only synthetic data has one."""
    return replace(data, reachable=reachable[data.task], synthetic=True)


def sweep_page(data: ReportData, written: datetime) -> str:
    """The page of one sweep."""
    return _render([data], f"{WORDS[data.task].title}: sweep {data.name}", written)


def overview_page(
    sweeps: Sequence[ReportData], written: datetime, notes: Sequence[str] = ()
) -> str:
    """The page of several sweeps."""
    return _render(sweeps, "Sweeps side by side", written, notes)


def _render(
    sweeps: Sequence[ReportData], title: str, written: datetime, notes: Sequence[str] = ()
) -> str:
    """One HTML document of one sweep or several; the same for the same arguments."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            lede=_lede(sweeps),
            notes=list(notes),
            synthetic=any(data.synthetic for data in sweeps),
            # An id of our own: names of sweeps may hold characters that are awkward in selectors.
            sweeps=[
                describe(data, f"sweep-{place}-{data.task.value}")
                for place, data in enumerate(sweeps, start=1)
            ],
            version=__version__,
            written=written.isoformat(timespec="seconds"),
            written_text=written.strftime("%Y-%m-%d %H:%M %Z"),
            light=Markup(declarations(LIGHT)),
            dark=Markup(declarations(DARK)),
            css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
            script=Markup((_HERE / "report.js").read_text(encoding="utf-8")),
            plotly=Markup(_plotly()),
        )
    )


def _lede(sweeps: Sequence[ReportData]) -> str:
    trials = sum(len(data.trials) for data in sweeps)
    tasks = list(dict.fromkeys(WORDS[data.task].title.lower() for data in sweeps))
    what = f"{trials} trial{'s' if trials != 1 else ''} of temporal models"
    listed = tasks[0] if len(tasks) == 1 else f"{', '.join(tasks[:-1])} and {tasks[-1]}"
    return f"{what} for {listed}, scored on the validation set as the ABAW challenge scores them."


def make_environment(folder: Path, **filters: Callable[..., object]) -> Environment:
    """Jinja with a folder's templates, and the report's where it has none of that name.

    Every value is escaped, a missing one is an error.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=score_text,
        duration=duration,
        count=count_text,
        value=short_value,
        numbers=numbers_text,
        state=STATE_NAMES.__getitem__,
        **filters,
    )
    return environment


@cache
def _environment() -> Environment:
    environment = make_environment(
        _HERE,
        percent=lambda score: f"{100 * min(max(score, 0.0), 1.0):.2f}",
        json=_script_json,
        day=lambda created: created[:10],
        signed=lambda gap: "–" if gap is None else f"{gap:+.4f}",
    )
    macros = environment.get_template("macros.html").module
    names = (
        "legend",
        "bullet",
        "figure",
        "trial_table",
        "printed_table",
        "fold",
        "csv",
        "plot",
        "small",
    )
    environment.globals.update({name: getattr(macros, name) for name in names})
    return environment


@cache
def _plotly() -> str:
    """Plotly's library, gzipped from five megabytes to less than two, without a time stamp."""
    source: str = get_plotlyjs()
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()


def _script_json(value: object) -> Markup:
    """JSON that can't end the script element that it is in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
