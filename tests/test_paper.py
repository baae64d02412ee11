"""The page beside the paper: its commands exist, and its settings make the model that it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer

from raffect.affwild2.tasks import Task
from raffect.cli.app import app
from raffect.config import recipe
from raffect.settings import override, parse_assignments
from raffect.temporal.heads import BatchNormHead
from raffect.temporal.model import TemporalModel

PAGE = (Path(__file__).parent.parent / "docs" / "paper.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_is_understood(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "va-authors.csv").touch()
    program, name, *rest = words
    assert program == "raffect"
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, rest).params


def test_the_settings_of_the_page_are_those_of_the_authors_model():
    (words,) = (words for words in COMMANDS if words[1] == "train")
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    config = override(recipe(Task.VA), parse_assignments(given))
    assert config.digest() != recipe(Task.VA).digest()
    with torch.device("meta"):
        model = TemporalModel(config, 512)
    assert isinstance(model.heads["va"], BatchNormHead)
    assert not model.positions
    assert (config.segments.blend, config.segments.predict_stride) == ("mean", None)
    named = re.findall(r"`([a-z_]+\.[a-z_]+)(?:=[a-z]+)?`", PAGE)
    known = {f"{group}.{key}" for group, of in config.canonical().items() if isinstance(of, dict)
             for key in of}  # fmt: skip
    assert {"model.head", "segments.predict_stride"} <= set(named) <= known
