"""Templates of pages: every value is escaped, numbers read the same on all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from raffect.report.naming import count_text, duration, numbers_text, score_text, short_value
from raffect.report.style import STATE_NAMES


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
