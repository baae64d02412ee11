"""The report's colours in light and dark: the one home of every colour on the page.

Blue, orange, vermillion and green are close to those of Okabe and Ito, which stay apart in the
common kinds of colour blindness; state is also told by the marker's shape, never by colour alone.
Figures name colours as `var(--name)`; the page's style sheet defines them and its script resolves
them, so that one figure serves both themes and the printer. The heat maps' scale stays on the
background's side of the middle, so that ink is legible in every cell; the scale of lines and
marks begins where they can just be seen.
"""

from __future__ import annotations

LIGHT = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#18202b",
    "muted": "#5a6676",
    "faint": "#8b96a5",
    "line": "#e1e5eb",
    "wash": "#f0f3f7",
    "blue": "#1b69ab",
    "blue-wash": "#e3eef8",
    "best": "#bd530b",
    "best-wash": "#fbeadd",
    "pruned": "#8a97a8",
    "fail": "#a8326e",
    "fail-wash": "#f8e4ee",
    "running": "#14795b",
    "running-wash": "#ddf1ea",
    "heat-0": "#f2f5f9",
    "heat-1": "#d3e4f3",
    "heat-2": "#a3cbeb",
    "heat-3": "#5fa5dd",
    "halo": "#ffffff",
    "scale-0": "#cdd6e1",
    "scale-1": "#9ec3e4",
    "scale-2": "#5b9fd6",
    "scale-3": "#2571b3",
    "scale-4": "#0c4379",
    "band-0": "#f0f3f7",
    "band-1": "#9ec3e4",
    "band-2": "#1b5f9e",
}

DARK = {
    "page": "#0f141b",
    "card": "#171e28",
    "ink": "#e7ecf3",
    "muted": "#a0acbc",
    "faint": "#77849a",
    "line": "#2a3441",
    "wash": "#1e2733",
    "blue": "#62aee8",
    "blue-wash": "#1b3550",
    "best": "#f2a154",
    "best-wash": "#46301b",
    "pruned": "#7f8da1",
    "fail": "#ee85b7",
    "fail-wash": "#472338",
    "running": "#4fc79d",
    "running-wash": "#173d31",
    "heat-0": "#1e2733",
    "heat-1": "#1f3a55",
    "heat-2": "#22527f",
    "heat-3": "#296aa8",
    "halo": "#171e28",
    "scale-0": "#3a4757",
    "scale-1": "#35597d",
    "scale-2": "#3f83bd",
    "scale-3": "#6db6ee",
    "scale-4": "#c9e5ff",
    "band-0": "#1e2733",
    "band-1": "#2f5f8f",
    "band-2": "#6db6ee",
}


def colour(name: str) -> str:
    """How figures and styles name a colour."""
    assert name in LIGHT, name
    return f"var(--{name})"


def colour_scale(name: str) -> list[list[float | str]]:
    """A scale of Plotly from the palette.

    Args:
        name: `heat` for cells with text, `band` for those without, `scale` for lines and marks.
    """
    steps = sorted(key for key in LIGHT if key.startswith(f"{name}-") and key[-1].isdigit())
    return [[index / (len(steps) - 1), colour(step)] for index, step in enumerate(steps)]


def declarations(palette: dict[str, str]) -> str:
    """The palette as CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in palette.items())
