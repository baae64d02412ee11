"""Extract: every crop of the dataset becomes one feature, by a pool of Ray Data actors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.data

from raffect.affwild2.shards import frames_files, read_shard
from raffect.affwild2.tasks import image_location
from raffect.code import code_digest
from raffect.config import ExtractConfig
from raffect.context import Context, OnNote
from raffect.engine import check_gpus, connect, share_of
from raffect.errors import outcome_of, outcomes
from raffect.store import (
    DATASET,
    Files,
    Manifest,
    Stage,
    Store,
    encoder_folder,
    features_folder,
    read_manifest,
)
from raffect.store.features import to_parquet
from raffect.store.layout import FRAMES
from raffect.store.stage import StagePart

if TYPE_CHECKING:
    from raffect.clip.encoder import FrameEncoder


def extract(
    store: Store,
    encoder: str,
    name: str,
    config: ExtractConfig,
    workers: int = 1,
    context: Context = Context(),
) -> Manifest:
    """Encode every crop of the dataset; features lie in the same files and order as the crops.

    Interrupted and given again, it keeps the files that verify and were made by the same code,
    and makes the rest; given again when finished, it does nothing.

    At most `workers` encoders run, with a GPU each where the cluster has any; the context's
    `progress` counts crops.

    Raises:
        NotThereError: The store has no dataset or no such encoder.
        ConflictError: Features of that name were begun or made otherwise.
        SettingsError: run.device is cuda, and this machine has no GPU; or the tower has no such
            layer.
        DataError: Features are not finite, or beyond the settings' dtype.
    """
    dataset = read_manifest(store, DATASET)
    model = encoder_folder(encoder)
    sources = {DATASET: dataset.digest(), model: read_manifest(store, model).digest()}
    plan = {"encoder": encoder, **config.identity()}
    check_gpus(config.run.device, 1, context.address)
    if config.layer != "projected":
        from raffect.clip.encoder import load_encoder
        from raffect.clip.layers import use_layer

        # Whether the tower has it is said before anything is written.
        use_layer(load_encoder(store, encoder), config.layer)
    stage = Stage(store, features_folder(name), "features", plan, sources, context.overwrite)
    if stage.finished is not None:
        return stage.finished
    connect(context.address)
    crops = dataset.files_in(store, DATASET)
    total = int(dataset.counts["crops"]["readable"])
    parts = []
    for part in _parts(stage, encoder, crops, config, workers, context.on_note):
        parts.append(part)
        context.progress(sum(part.facts["rows"] for part in parts), total)
    rows = sum(part.facts["rows"] for part in parts)
    assert rows == total, f"{rows} features of {total} crops"
    return stage.finish(parts, {"rows": rows, "dim": parts[0].facts["dim"]})


def _parts(
    stage: Stage,
    encoder: str,
    crops: Files,
    config: ExtractConfig,
    workers: int,
    on_note: OnNote,
) -> Iterator[StagePart]:
    """The parts that are there already, then each of the others as it is finished."""
    # Parts of other code may hold other numbers: 0.2 computed in bfloat16 on GPUs.
    code = code_digest("features")
    kept = {name: part for name, part in stage.parts().items() if part.facts.get("code") == code}
    yield from kept.values()
    pending = [
        shard
        for shard in frames_files(crops.entries)
        if shard.removeprefix(f"{FRAMES}/") not in kept
    ]
    if not pending:
        return
    share = share_of(1, config.run.device, on_note, cpus=1)
    source = ray.data.from_items(
        [{"shard": shard} for shard in pending], override_num_blocks=len(pending)
    )
    done = source.map(
        _Encoder,  # type: ignore[arg-type]  # Ray types functions only
        fn_constructor_args=(stage, encoder, crops, config),
        # A fixed pool of more actors than fit would wait for ever.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, len(pending))),
        num_cpus=share.cpus,
        num_gpus=share.gpus,
    )
    yield from outcomes(done.iter_rows())


class _Encoder:
    """An actor of Ray Data: holds the model and encodes one shard per call."""

    def __init__(self, stage: Stage, encoder: str, crops: Files, config: ExtractConfig) -> None:
        self.stage = stage
        self.crops = crops
        self.config = config
        self._name = encoder

    @cached_property
    def encoder(self) -> FrameEncoder:
        """The model, on its device."""
        # The command itself needs no PyTorch.
        from raffect.clip.encoder import load_encoder
        from raffect.clip.layers import use_layer
        from raffect.training.device import choose_device

        loaded = use_layer(load_encoder(self.stage.store, self._name), self.config.layer)
        return loaded.to(choose_device(self.config.run.device))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return outcome_of(lambda: self._encode(row["shard"]))

    def _encode(self, name: str) -> StagePart:
        from raffect.clip.encoding import encode_crops

        columns = ["video", "frame", "jpeg"]
        table = self.crops.parse_table(name, partial(read_shard, columns=columns))
        videos = table.column("video").cast(pa.string()).to_pylist()
        frames = table.column("frame").to_numpy()

        def location(row: int) -> str:
            return image_location(videos[row], int(frames[row]))

        jpegs = table.column("jpeg").to_pylist()
        features = encode_crops(self.encoder, jpegs, self.config, location)
        return self.stage.write_part(
            name.removeprefix(f"{FRAMES}/"),
            to_parquet(videos, frames, features, self.config.dtype),
            {"rows": len(features), "dim": self.encoder.dim, "code": code_digest("features")},
        )
