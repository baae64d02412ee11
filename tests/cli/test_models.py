"""evaluate and submission on files, without a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raffect.affwild2.predictions import header_of
from raffect.affwild2.tasks import Split, Task
from raffect.cli.app import run
from tests.builders import RawTree

Tell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def write(folder: Path, scale: float) -> tuple[Path, Path, Path]:
    """Predictions of valence and arousal, the root of their annotations, an example file."""
    rng = np.random.default_rng(4)
    true = rng.uniform(-1, 1, (60, 2)).round(3)
    guess = (true * scale + rng.normal(0, 0.03, (60, 2))).round(4)
    tree = RawTree(folder)
    tree.annotate(Task.VA, Split.VALIDATION, "454", [f"{v},{a}" for v, a in true.tolist()])
    rows = [f"454/{i:05d}.jpg,{v},{a}" for i, (v, a) in enumerate(guess.tolist(), 1)]
    path, example = folder / "p.csv", folder / "example.txt"
    path.write_text("\n".join([header_of(Task.VA), *rows]) + "\n")
    names = [row.partition(",")[0] + ",," for row in rows]
    example.write_text("\n".join([header_of(Task.VA), *names]) + "\n")
    return path, tree.annotations, example


def test_two_scores_of_the_same_predictions_are_told(tell: Tell, tmp_path: Path) -> None:
    path, annotations, example = write(tmp_path, 2.2)
    out = tmp_path / "out.txt"
    code, _, told = tell("submission", "va", path, "--example", example, "--out", out)
    assert code == 0
    assert "values lie outside [-1, 1] and are clipped" in told

    def scored(file: Path, *more: str) -> tuple[dict[str, Any], str]:
        words = ("evaluate", "va", file, "--annotations", annotations, "--json", *more)
        code, printed, told = tell(*words)
        assert code == 0
        return json.loads(printed), told

    raw, note = scored(path)
    written, silence = scored(out)
    submitted, silence_too = scored(path, "--as-submitted")
    assert silence == silence_too == ""
    assert f"clips {raw['clipped']:,} of these values" in note
    assert f"{written['score']:.4f}" in note
    assert submitted["score"] == written["score"] == raw["submitted_score"]
    assert (raw["as_submitted"], submitted["as_submitted"]) == (False, True)
    assert raw["score"] < written["score"] - 0.05
    assert written["clipped"] == 0
    assert scored(path, "--quiet")[1] == ""
    assert scored(path, "--as-paper")[0] == raw
    words = ("evaluate", "va", path, "--annotations", annotations, "--as-paper")
    assert "no score as the authors' code counts" in " ".join(tell(*words)[1].split())


def test_nothing_is_told_where_only_far_decimals_differ(tell: Tell, tmp_path: Path) -> None:
    path, annotations, _ = write(tmp_path, 0.9)
    assert tell("evaluate", "va", path, "--annotations", annotations)[0::2] == (0, "")


def test_the_task_that_files_are_of_is_told(tell: Tell, tmp_path: Path) -> None:
    path, annotations, _ = write(tmp_path, 1)
    code, _, told = tell("evaluate", "au", path, "--annotations", annotations)
    assert code == 2
    assert "raffect evaluate va" in told
