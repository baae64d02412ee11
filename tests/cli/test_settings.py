"""The list of settings is whole, and the document of it is current."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raffect.affwild2.tasks import Task
from raffect.cli.app import run
from raffect.cli.settings import COMMANDS, list_settings, to_markdown
from raffect.config import ExtractConfig, FinetuneConfig, recipe
from raffect.settings import Config, flatten, override

CONFIGS: dict[str, Config] = {
    "finetune": FinetuneConfig(),
    "extract": ExtractConfig(),
    "train": recipe(Task.VA),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_is_listed_with_its_meaning_and_may_be_set_to_its_default(
    command: str,
) -> None:
    config, rows = CONFIGS[command], list_settings(command)
    assert {row.key for row in rows} == set(flatten(config.canonical())) - {"task"}
    assert all(row.meaning and row.takes for row in rows)
    from raffect.settings import parse_assignments

    first = [f"{row.key}={row.default.split(' / ')[0]}" for row in rows]
    assert override(config, parse_assignments(first)) == config


@pytest.mark.parametrize(
    ("key", "takes", "default"),
    [
        ("optimiser.epochs", "integer, at least 1", "40 / 10 / 30"),
        ("model.tcn.channels", "list; each integer, at least 1", "[768, 256, 128]"),
        ("model.tcn.depth", "integer, 0 to 64", "3"),
        ("model.tcn.dropout", "number, at least 0, below 1", "0.3"),
        ("optimiser.clip_norm", "number, above 0 or none", "none"),
        ("optimiser.lr", "number, above 0", "3e-5"),
        ("fold", "text or none", "none"),
        ("run.seed", "integer, at least 0", "0"),
        ("model.input", "none, zscore, l2", "none"),
    ],
)
def test_what_a_setting_takes_in_words(key: str, takes: str, default: str) -> None:
    (row,) = (row for row in list_settings("train") if row.key == key)
    assert (row.takes, row.default) == (takes, default)


def test_the_document_is_what_the_command_prints() -> None:
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    found = {name: list_settings(name) for name in COMMANDS}
    assert text == to_markdown(found) + "\n", "raffect settings --markdown > docs/settings.md"


def test_a_script_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", "tune", "--json"]) == 0
    (rows,) = json.loads(capsys.readouterr().out).values()
    assert {"key", "takes", "default", "meaning"} == set(rows[0])


def test_names_are_whole_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    firsts = {line.split()[0] for line in lines if line.strip() and line[0] != " "}
    for command in COMMANDS:
        assert {row.key for row in list_settings(command)} <= firsts


@pytest.mark.parametrize("command", ["predict", "foo"])
def test_a_command_without_settings_is_refused(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(["settings", command]) == 2
    told = capsys.readouterr().err
    assert "Allowed: finetune, extract, train, tune, ablate" in told
    assert "`raffect --help`" in told, "advice that works, whatever was typed"
