"""Filling the page's templates; its look is the report's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

import raffect.report
from raffect import __version__
from raffect.jobs.page.show import STATUS_TEXT
from raffect.report.palette import DARK, LIGHT, declarations
from raffect.report.templates import make_environment

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """A page, or the part of one that is fetched again."""
    return _environment().get_template(template).render(version=__version__, **values)


@cache
def style_sheet() -> str:
    """The report's colours and style, and what only this page has."""
    report = Path(next(iter(raffect.report.__path__)))
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {declarations(DARK)} }} }}"
    parts = [
        f":root {{ {declarations(LIGHT)} }}",
        dark,
        (report / "report.css").read_text(encoding="utf-8"),
        (_HERE / "board.css").read_text(encoding="utf-8"),
    ]
    return "\n".join(parts)


@cache
def script() -> str:
    """What fetches the live part again."""
    return (_HERE / "board.js").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return make_environment(
        _HERE,
        rate=lambda rate: f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        status=lambda status: STATUS_TEXT[status],
        moment=lambda iso: iso[:16].replace("T", " ") + " UTC",
    )
