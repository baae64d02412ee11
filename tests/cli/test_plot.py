from __future__ import annotations

from raffect.cli.plot import COLOURS, Curve, draw_steps


def lines(*curves: Curve, width: int = 20, height: int = 3) -> list[str]:
    chart = draw_steps(curves, width, height, lambda x: f"{x:g} h", lambda y: f"{y:g}")
    return [line.rstrip() for line in chart.plain.splitlines()]


def test_steps_are_drawn_between_the_bounds_of_the_axes() -> None:
    assert lines(Curve("a", [(0, 1), (2, 3)], 4)) == [
        "3 │        ⡏⠉⠉⠉⠉⠉⠉⠉⠉",
        "  │        ⡇",
        "1 │⣀⣀⣀⣀⣀⣀⣀⣀⡇",
        "  └─────────────────",
        "   0             4 h",
        "   ━━ a",
    ]


def test_curves_have_their_own_colour_and_end_where_they_end() -> None:
    chart = draw_steps([Curve("a", [(0, 0)], 10), Curve("b", [(0, 1)], 5)], 24, 3, str, str)
    top, _, bottom = chart.plain.splitlines()[:3]
    assert top.rstrip().count("⠉") * 2 in range(bottom.count("⣀") - 2, bottom.count("⣀") + 3)
    used = {str(span.style) for span in chart.spans}
    assert {COLOURS[0], COLOURS[1]} <= used
    assert COLOURS[2] not in used


def test_one_value_and_no_time_at_all_can_be_drawn() -> None:
    assert "⠒" in lines(Curve("a", [(0, 0.5)], 3))[1]
    assert len(lines(Curve("a", [(0, 0.5)], 0), Curve("b", [], 0))) == 7
