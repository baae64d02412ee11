"""Filling the templates: every value is escaped, nothing on the page is fetched."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raffect import __version__
from raffect.report.data import ReportData
from raffect.report.palette import DARK, LIGHT, declarations
from raffect.report.templates import make_environment
from raffect.report.view import describe

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
