"""How wide things are, and how a stage tells its pace."""

from __future__ import annotations

import pytest

from raffect.cli.screen import WIDTH, Screen, pace_text


@pytest.mark.parametrize(
    ("columns", "width"), [("60", 60), ("200", 200), ("", WIDTH), ("wide", WIDTH), (None, WIDTH)]
)
def test_a_pipe_is_as_wide_as_columns_says(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert Screen().console.width == width


def test_prose_is_never_wider_than_can_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    screen = Screen()
    screen.say("word " * 60)
    screen.styled("word " * 60)
    screen.path("word " * 60)
    *wrapped, whole = capsys.readouterr().out.rstrip().splitlines()
    assert max(map(len, wrapped)) <= WIDTH
    assert len(whole) > 200


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ((3.0, None, None), "3.0 s"),
        ((12.0, 1024.4, 200.0), "12 s · 1,024/s · about 3 min 20 s left"),
        ((600.0, 0.05, 3600.0), "10 min 00 s · 3.0/min · about 1 h 00 min left"),
        ((12.0, 3.0, 0.0), "12 s · 3/s"),
    ],
)
def test_the_pace_of_a_stage(told: tuple[float, float | None, float | None], text: str) -> None:
    assert pace_text(*told) == text
