"""The real command with streams that lack characters, are closed, full, or go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raffect.cli.app import run
from raffect.cli.screen import Screen
from raffect.store import Store


def in_shell(line: str, *words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `raffect` stands for the command."""
    line = line.replace("raffect", f"{sys.executable} -m raffect")
    return subprocess.run(
        ["bash", "-c", line, "bash", *words],
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_these_characters_gets_plain_ones(tmp_path: Path, encoding: str):
    """`…` before a stage, and a path with other letters, on both streams."""
    where = str(tmp_path / "st\u00f6re \u65e5\u672c")
    Path(where).mkdir()
    told = in_shell('raffect check --store "$1"', where, PYTHONIOENCODING=encoding)
    assert told.returncode == 2
    assert told.stdout.startswith(b". Verifying the store")
    shown = ("st\u00f6re" if encoding == "latin-1" else "st\\xf6re") + " \\u65e5\\u672c"
    assert shown.encode(encoding) in told.stderr
    assert b"Traceback" not in told.stderr


@pytest.mark.slow
def test_closed_broken_and_full_streams(tmp_path: Path):
    store = str(tmp_path)
    for line, code in (
        ('raffect trials --store "$1" >&-', 0),
        ('raffect trials --store "$1" <&- 2>&-', 0),
        ('raffect trials --store "$1" | true; exit ${PIPESTATUS[0]}', 0),
        ('raffect trials --store "$1" >/dev/full', 2),
    ):
        told = in_shell(line, store)
        assert told.returncode == code, (line, told.stderr)
        assert b"Traceback" not in told.stderr
        assert b"Exception ignored" not in told.stderr
    assert b"No space left" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_every_character_in_any_encoding(tmp_path: Path):
    code = (
        "from raffect.cli.streams import prepare_streams; prepare_streams();"
        "from raffect.cli.screen import Screen; Screen().json({'\u65e5': 'ö'})"
    )
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
        )
        assert json.loads(done.stdout.decode(encoding)) == {"\u65e5": "ö"}


def test_brackets_and_colons_are_what_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Rich would read a colour, an end of one, or a picture."""
    name = "[bold]a[/red] [red] :warning:"
    store = Store(str(tmp_path / name))
    Path(store.uri).mkdir(parents=True)
    assert run(["trials", "--store", store.uri]) == 0
    assert f"No sweeps in {store.uri} yet".replace(" ", "") in capsys.readouterr().out.replace(
        "\n", ""
    ).replace(" ", "")
    screen = Screen()
    screen.say(name)
    with screen.stage(name) as bar:
        bar.tell(name)
    screen.table(["what", ">n"], [[name, name]])
    said = capsys.readouterr().out
    assert said.count(name) == 6
