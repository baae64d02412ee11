"""One self-contained HTML file from the numbers of one sweep or of several."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raffect import __version__
from raffect.report.collect import collect
from raffect.report.data import ReportData
from raffect.report.figures.style import DARK, LIGHT, declarations
from raffect.report.sections import TITLES, describe
from raffect.report.tables_of_sweep import tables_of
from raffect.store import Store, sweep_folder
from raffect.store.layout import REPORT
from raffect.sweep.attributes import STATE_NAMES
from raffect.text import count_text, duration, numbers_text, score_text, short_value


def write_report(
    store: Store, sweep: str, out: Path | None = None, tables: Path | None = None
) -> str:
    """Write the report of one sweep; returns where it is.

    Args:
        store: The store with the sweep.
        sweep: The sweep's name.
        out: A local file; None is REPORT in the sweep's folder of the store.
        tables: A local folder for the numbers as CSV files, those of all trials.

    Raises:
        NotThereError: The store holds no such sweep.
        StoreError: The store can't be read or written.
    """
    data = collect(store, sweep)
    if tables is not None:
        write_tables(data, tables)
    page = sweep_page(data, datetime.now(UTC))
    if out is not None:
        return str(_write(out, page))
    key = f"{sweep_folder(sweep)}/{REPORT}"
    store.write_bytes(key, page.encode())
    return store.where(key)


def write_tables(data: ReportData, folder: Path) -> list[Path]:
    """Write the numbers of one sweep as CSV files; returns them."""
    return [_write(folder / table.file, table.csv()) for table in tables_of(data).values()]


def write_overview(
    store: Store, sweeps: Sequence[str], out: Path, facts: Mapping[str, Any]
) -> Path:
    """Write one page for several sweeps; returns the file.

    Args:
        store: The store with the sweeps.
        sweeps: Their names, in the order of the page.
        out: A local file.
        facts: What the store does not know: for each task `{"baseline": x, "reachable": y}` (both
            optional; a reachable score also says that the data is synthetic), `"synthetic"`:
            bool, and `"notes"`: lines to show at the top.

    Raises:
        NotThereError: The store holds no such sweep.
        StoreError: The store can't be read.
    """
    found = [with_facts(collect(store, name), facts) for name in sweeps]
    return _write(out, overview_page(found, datetime.now(UTC), facts.get("notes", ())))


def with_facts(data: ReportData, facts: Mapping[str, Any]) -> ReportData:
    """The numbers with what is known from outside of the store."""
    own: Mapping[str, Any] = facts.get(data.task.value) or {}
    reachable = own.get("reachable", data.reachable)
    return replace(
        data,
        baseline=own.get("baseline", data.baseline),
        reachable=reachable,
        synthetic=bool(data.synthetic or facts.get("synthetic") or reachable is not None),
    )


def sweep_page(data: ReportData, written: datetime) -> str:
    """The page of one sweep."""
    return render(
        [data],
        title=f"{TITLES[data.task]}: sweep {data.name}",
        lede=_lede([data]),
        written=written,
    )


def overview_page(
    found: Sequence[ReportData], written: datetime, notes: Sequence[str] = ()
) -> str:
    """The page of several sweeps."""
    return render(
        found, title="Sweeps side by side", lede=_lede(found), written=written, notes=notes
    )


def _lede(found: Sequence[ReportData]) -> str:
    trials = sum(len(data.trials) for data in found)
    tasks = list(dict.fromkeys(TITLES[data.task].lower() for data in found))
    what = f"{trials} trial{'s' if trials != 1 else ''} of temporal models"
    listed = tasks[0] if len(tasks) == 1 else f"{', '.join(tasks[:-1])} and {tasks[-1]}"
    return f"{what} for {listed}, scored on the validation set as the ABAW challenge scores them."


def _write(out: Path, text: str) -> Path:
    """Write a local file as a whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    return out


_HERE = Path(__file__).parent


def render(
    found: Sequence[ReportData],
    title: str,
    lede: str,
    written: datetime,
    notes: Sequence[str] = (),
) -> str:
    """One HTML document of one sweep or several; the same for the same arguments."""
    environment = _environment()
    return environment.get_template("page.html").render(
        title=title,
        lede=lede,
        notes=list(notes),
        synthetic=any(data.synthetic for data in found),
        sweeps=[describe(data, _identity(data, index)) for index, data in enumerate(found)],
        version=__version__,
        written=written.isoformat(timespec="seconds"),
        written_text=written.strftime("%Y-%m-%d %H:%M %Z"),
        light=Markup(declarations(LIGHT)),
        dark=Markup(declarations(DARK)),
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(_plotly()),
    )


def _identity(data: ReportData, index: int) -> str:
    """An id for links; names of sweeps may hold characters that are awkward in selectors."""
    return f"sweep-{index + 1}-{data.task.value}"


@cache
def _environment() -> Environment:
    environment = make_environment(
        _HERE, percent=percent, figure_json=figure_json, day=lambda created: created[:10]
    )
    macros: Any = environment.get_template("macros.html").module
    environment.globals.update(
        {
            name: getattr(macros, name)
            for name in ("legend", "bullet", "figure", "trial_table", "csv", "plot", "small")
        }
    )
    return environment


@cache
def _plotly() -> str:
    """The library in two of its five megabytes; the time of packing is none of its content."""
    source: str = get_plotlyjs()
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()


def percent(score: float) -> str:
    """Where a score lies on a scale from 0 to 1, in percent of its width."""
    return f"{100 * min(max(score, 0.0), 1.0):.2f}"


def figure_json(figure: dict[str, Any]) -> Markup:
    """A figure or tables as JSON that can't end its script element."""
    text = json.dumps(figure, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def make_environment(folder: Path, **filters: Callable[..., Any]) -> Environment:
    """The templates of a folder, with filters of their own beside those that all pages have."""
    environment = Environment(
        loader=FileSystemLoader(folder),
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
        state=lambda state: STATE_NAMES.get(state, state.lower()),
        **filters,
    )
    return environment
