"""A sweep whose trials see two sets of features, from its command to a trial trained again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raffect.affwild2.tasks import Split
from raffect.cli.app import run
from raffect.store import Store
from raffect.store.raw import RawFolder
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.plan import read_plan
from raffect.sweep.retrain import plan_retraining
from raffect.temporal.import_features import import_features
from raffect.temporal.inference import load_bundle, predict_split
from raffect.temporal.train import train
from tests.sweep import tiny

SMALL = [f"--set={key}={list(v) if isinstance(v, tuple) else v}" for key, v in tiny.SIZES.items()]


@pytest.mark.ray
def test_a_sweep_over_two_sets(
    ray_local: None,
    filled: Store,
    space: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    audio = tmp_path / "audio"
    audio.mkdir()
    for i in range(6):
        np.save(audio / f"v{i}.npy", np.random.default_rng(i).normal(40, 9, (60, 3)))
    import_features(filled, RawFolder.of(audio, "DIR"), "audio")
    words = [
        "tune",
        "va",
        *SMALL,
        "--space",
        space,
        "--track",
        "none",
        "--concurrent",
        "1",
        "--store",
        filled.uri,
    ]
    both = ["--features", "clip", "--features", "audio", "--name", "s"]
    assert run([*words, *both, "--trials", "2"]) == 0
    assert "--features clip --features audio" in capsys.readouterr().out
    planned = read_plan(filled, "s")["config"]
    assert planned["features"] == ["clip", "audio"]
    assert planned["base"]["model"]["input"] == "zscore"

    view = load_sweep(filled, "s")
    best = view.rows[0]
    bundle = load_bundle(filled, f"sweeps/s/trials/{best.number:05d}")
    assert bundle.model.dims == (tiny.DIM, 3)
    assert bundle.metrics["score"] == best.score
    assert len(predict_split(filled, bundle, Split.VALIDATION)) == 2

    wanted = plan_retraining(filled, "s")
    again = train(filled, wanted.config, wanted.features, "again")
    assert again.counts["score"] == best.score

    # The order is part of what the name is bound to.
    turned = ["--features", "audio", "--features", "clip", "--name", "s"]
    assert run([*words, *turned, "--trials", "3"]) == 2
    error = capsys.readouterr().err
    assert 'features: ["clip", "audio"] -> ["audio", "clip"]' in error
