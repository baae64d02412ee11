"""`raffect ablate` on crops: it makes the frozen features, and says, writes and prints a table."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raffect.cli.app import run
from raffect.clip.encoder import build_encoder
from raffect.clip.encoding import encode_crops
from raffect.clip.layers import use_layer
from raffect.config import ExtractConfig
from raffect.report.page import write_report
from raffect.store import Stage, Store, read_manifest
from raffect.store.features import to_parquet
from raffect.store.layout import CONFIG, ENCODER_WEIGHTS
from raffect.sweep.frozen import FrozenFeatures, plan_frozen
from raffect.training.checkpoints import json_bytes, tensor_bytes
from tests.clip.clip_data import make_dataset, tiny_config
from tests.sweep import tiny

SMALL = [
    "segments.window=16", "segments.stride=8", "model.tcn.channels=[8]", "model.tcn.depth=1",
    "model.width=8", "model.transformer.layers=0", "model.head_hidden=8", "optimiser.epochs=2",
    "optimiser.lr=0.001", "run.device=cpu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--without", "losses.mse"], "no setting has the name 'losses.mse'"),
        (["--without", "losses.mse_share"], "the base has losses.mse_share = 0.0 already"),
        (["--without", "segments.stride"], "neither none nor 0"),
        (["--without", "model.transformer.heads=3"], "heads = 3 does not divide"),
        (["--base", "none:3"], "holds no sweep 'none'"),
        (["--frozen", "nowhere"], "no features 'nowhere'; they can't be made"),
        (["--features", "nothing"], "no finished 'features/nothing'"),
        (["--set", "task=au"], "is for the task va"),
        (["--name", "a/b"], "can't be a name in the store"),
        (["--features", "clip", "--features", "clip"], "each once"),
    ],
)
def test_a_mistake_is_one_message_before_anything_is_trained(
    store: Store, capsys: pytest.CaptureFixture[str], given: list[str], told: str
):
    tiny.fill(store)
    assert run(["ablate", "va", "--store", store.uri, *given]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message
    assert store.names("sweeps") == store.names("encoders") == []


@pytest.fixture
def tuned(store: Store, ray_local: None) -> Store:
    """A store with crops, an encoder that counts as tuned, and its features."""
    make_dataset(store, train=4, validation=2, shards=1)
    config = tiny_config(epochs=1)
    stage = Stage(store, "encoders/clip", "encoder", {**config.identity(), "workers": 1}, {})
    encoder = build_encoder(config.encoder, config.head, 7)
    parts = [
        stage.write_part(ENCODER_WEIGHTS, tensor_bytes(encoder.state_dict())),
        stage.write_part(CONFIG, json_bytes(encoder.describe())),
    ]
    stage.finish(parts, {"epochs": 1})
    # As `extract` would have made them, but for Ray: it costs seconds, and the command needs it.
    config = ExtractConfig(layer="penultimate")
    sources = {name: read_manifest(store, name).digest() for name in ("dataset", "encoders/clip")}
    made = Stage(
        store, "features/clip", "features", {"encoder": "clip", **config.identity()}, sources
    )
    crops = pq.read_table(io.BytesIO(store.read_bytes("dataset/frames/00000.parquet")))
    use_layer(encoder, config.layer)
    rows = encode_crops(encoder, crops["jpeg"].to_pylist(), config, str)
    videos = crops["video"].cast("string").to_pylist()
    data = to_parquet(videos, crops["frame"].to_numpy(), rows)
    part = made.write_part("00000.parquet", data)
    made.finish([part], {"rows": len(rows), "dim": rows.shape[1]})
    return store


@pytest.mark.long
@pytest.mark.ray
def test_the_table_of_a_store_with_crops(
    tuned: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = [part for one in SMALL for part in ("--set", one)]
    where = ["--store", tuned.uri]
    command = ["ablate", "expr", "--seeds", "2", "--concurrent", "1", *where, *settings]
    files = {"latex": tmp_path / "new/table.tex", "csv": tmp_path / "table.csv"}
    out = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert run([*command, *out]) == 0
    said = capsys.readouterr().out
    assert "encoders/clip-frozen is not tuned" in said
    assert "without Transformer: left out, as with this base it is the same as full." in said
    assert "Mean ± standard deviation over 2 seeds" in said
    assert all(len(line) <= 80 for line in said.splitlines() if "without TCN  " in line)

    # The frozen features are of the same settings; only the encoder differs.
    made = read_manifest(tuned, "features/clip-frozen")
    own = read_manifest(tuned, "features/clip")
    assert {**own.config, "encoder": "clip-frozen"} == made.config
    assert made.counts == own.counts
    assert [file.sha256 for file in made.files] != [file.sha256 for file in own.files]

    # Given again it does nothing but print; JSON says the same.
    frozen = plan_frozen(tuned, "clip")
    assert frozen == FrozenFeatures("clip-frozen")
    assert run([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["full", "without fine-tuning", "without TCN"]
    assert rows[1]["without"] == {"features": "clip-frozen"}
    assert all(len(row["scores"]) == 2 for row in rows)
    lines = files["csv"].read_text().splitlines()
    assert lines[1].startswith(f"full,,{rows[0]['mean']}")
    assert "without TCN &" in files["latex"].read_text()

    # It is a sweep as others are.
    assert run(["trials", *where]) == 0
    assert "expr-ablation (ablation)" in capsys.readouterr().out
    assert run(["trials", "--json", *where]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)
    assert (sweep["name"], sweep["kind"]) == ("expr-ablation", "ablation")
    assert run(["trials", "expr-ablation", *where]) == 0
    shown = capsys.readouterr().out
    assert "An ablation, not a search" in shown
    assert "Mean ± standard deviation over 2 seeds" in shown
    predict = ["predict", "expr-ablation:1", "--split", "validation"]
    assert run([*predict, "--out", str(tmp_path / "p.csv"), *where]) == 0
    page = tmp_path / "report.html"
    write_report(tuned, "expr-ablation", page)
    assert "What each part contributes" in page.read_text()
