"""Extract: every crop of the dataset becomes one feature, by a pool of Ray Data actors."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from raffect.clip.encoder import load_encoder
from raffect.clip.encoding import choose_device, encode_crops
from raffect.clip.ingest import FRAMES
from raffect.clip.workers import count_gpus
from raffect.config import ExtractConfig
from raffect.engine import connect
from raffect.errors import SettingsError
from raffect.store import (
    DATASET,
    Manifest,
    Stage,
    Store,
    encoder_folder,
    features_folder,
    read_manifest,
)
from raffect.store.features import to_parquet

Progress = Callable[[int, int], None]


def extract(
    store: Store,
    encoder: str,
    name: str,
    config: ExtractConfig,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    address: str | None = None,
) -> Manifest:
    """Encode every crop of the dataset; features lie in the same files and order as the crops.

    Interrupted and given again, it keeps the files that verify and makes the rest; given again
    when finished, it does nothing.

    Args:
        store: The store, with a dataset and the encoder; the features go there.
        encoder: Name of the encoder.
        name: Name of the features.
        config: All settings.
        workers: Encoders at most, a GPU each where the cluster has any.
        overwrite: Replace features of that name that were made otherwise.
        progress: Called as `progress(crops done, crops)`.
        address: A Ray cluster; None is RAY_ADDRESS, else this machine.

    Raises:
        NotThereError: The store has no dataset or no such encoder.
        ConflictError: Features of that name were begun or made otherwise.
        SettingsError: run.device is cuda, and the cluster has no GPU.
    """
    dataset = read_manifest(store, DATASET)
    encoder_manifest = read_manifest(store, encoder_folder(encoder))
    sources = {
        DATASET: dataset.digest(),
        encoder_folder(encoder): encoder_manifest.digest(),
    }
    plan = {"encoder": encoder, **config.canonical()}
    stage = Stage(store, features_folder(name), "features", plan, sources, overwrite)
    if stage.finished is not None:
        return stage.finished
    shards = [e.name for e in dataset.files if e.name.startswith(FRAMES)]
    parts = stage.parts()
    facts = [part.facts for part in parts.values()]
    pending = [shard for shard in shards if shard.removeprefix(FRAMES) not in parts]
    total = int(dataset.counts["crops"]["readable"])
    connect(address)
    for row in _encoded(stage, encoder, pending, config, workers):
        facts.append({"rows": row["rows"], "dim": row["dim"]})
        if progress is not None:
            progress(sum(fact["rows"] for fact in facts), total)
    rows = sum(fact["rows"] for fact in facts)
    dims = {fact["dim"] for fact in facts}
    assert rows == total, f"{rows} features for {total} crops"
    finished = stage.parts()
    return stage.finish(list(finished.values()), {"rows": rows, "dim": dims.pop()})


def _encoded(
    stage: Stage, encoder: str, shards: list[str], config: ExtractConfig, workers: int
) -> Iterator[dict[str, Any]]:
    """Facts of each shard as an encoder finishes it."""
    if not shards:
        return
    gpus = count_gpus()
    if config.run.device == "cuda" and not gpus:
        raise SettingsError(
            "run.device is cuda; the cluster has no GPU.",
            "auto or cpu, or a cluster with GPUs",
            "Give --set run.device=auto.",
        )
    use_gpu = config.run.device != "cpu" and gpus > 0
    source = ray.data.from_items(
        [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
    )
    done = source.map_batches(
        _Encoder,
        fn_constructor_args=(stage, encoder, config),
        batch_size=1,
        batch_format="numpy",
        # A fixed pool of more actors than fit would wait for ever.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(shards))),
        num_cpus=1,
        num_gpus=1 if use_gpu else 0,
        max_restarts=2,
    )
    yield from done.iter_rows()


class _Encoder:
    """Holds the model and encodes a shard per call."""

    def __init__(self, stage: Stage, encoder: str, config: ExtractConfig) -> None:
        self.stage = stage
        self.config = config
        self.encoder = load_encoder(stage.store, encoder).to(choose_device(config.run))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (name,) = batch["shard"]
        data = self.stage.store.read_bytes(f"{DATASET}/{name}")
        table = pq.read_table(io.BytesIO(data), columns=["video", "frame", "jpeg"])
        features = encode_crops(self.encoder, table.column("jpeg").to_pylist(), self.config)
        videos = table.column("video").cast(pa.string()).to_pylist()
        frames = table.column("frame").to_numpy()
        facts = {"rows": len(features), "dim": self.encoder.dim}
        self.stage.write_part(
            str(name).removeprefix(FRAMES), to_parquet(videos, frames, features), facts
        )
        return {key: np.array([value]) for key, value in facts.items()}
