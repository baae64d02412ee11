"""Whether the workers of a run hold their share of the videos each, or all of them.

The settings say it (`optimiser.shards`), and with them the plan: a run that goes on keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raffect.affwild2.folds import load_fold
from raffect.affwild2.tasks import Split
from raffect.config import TemporalConfig
from raffect.context import SHARD_ABOVE, Context
from raffect.errors import SettingsError
from raffect.settings import override
from raffect.store import Store, features_folder, read_manifest
from raffect.store.features import FeatureNames, dtype_of, feature_names
from raffect.text import size_text

SHARDS = "optimiser.shards"


@dataclass(frozen=True)
class Sharding:
    """What a user asks for.

    Attributes:
        wanted: None: as the run began; a new one shards what the object store is too small for.
        above: Share of a node's object store from which on features are too large for it.
    """

    wanted: bool | None = None
    above: float = SHARD_ABOVE


def choose_shards(
    store: Store,
    config: TemporalConfig,
    features: FeatureNames,
    workers: int,
    sharding: Sharding,
    begun: Mapping[str, Any] | None,
    context: Context,
) -> TemporalConfig:
    """The settings of a run on so many workers; `begun` has those that it began with, if it did.

    Connects to the cluster where its object store decides.

    Raises:
        SettingsError: There is one worker to shard for, or more than there are shares or videos.
        NotThereError: No such features, or no dataset.
    """
    if config.optimiser.shards == 1 and sharding.wanted is not False:
        # What was begun decides before what is asked for: it may go on on fewer workers.
        shards = begun.get("optimiser", {}).get("shards", 1) if begun is not None else 1
        if shards == 1 and sharding.wanted:
            if workers == 1:
                raise SettingsError(
                    "--shard-features with one worker, which holds all videos.",
                    "several workers: --workers, or of a sweep --workers-per-trial",
                    "Give more workers, or leave --shard-features out.",
                )
            shards = workers
        elif begun is None and workers > 1:
            shards = _found(store, config, features, workers, sharding, context)
        config = override(config, {SHARDS: shards})
    shards = config.optimiser.shards
    if shards > 1:
        videos = _count_videos(store, config)
        if shards > videos:
            raise SettingsError(
                f"{shards} workers are to share the features of {videos} training videos.",
                f"at most {videos} workers with --shard-features",
                "Give fewer workers, or --no-shard-features.",
            )
        check_workers(workers, shards)
    return config


def check_workers(workers: int, shards: int) -> None:
    """Refuse more workers than there are shares, if there are several: some would have none.

    Raises:
        SettingsError: There are more.
    """
    if 1 < shards < workers:
        raise SettingsError(
            f"{workers} workers, and the videos are in {shards} shares ({SHARDS}).",
            f"at most {shards} workers",
            f"Give at most {shards}, or another --name for a run in {workers} shares.",
        )


def _found(
    store: Store,
    config: TemporalConfig,
    features: FeatureNames,
    workers: int,
    sharding: Sharding,
    context: Context,
) -> int:
    """As many shares as workers where the features are too large for a node's object store."""
    # Imported here: one process needs no Ray, which takes seconds to import.
    from raffect import engine

    engine.connect(context.address)
    size, held = _bytes_of(store, features), engine.smallest_object_store()
    if size <= sharding.above * held or _count_videos(store, config) < workers:
        return 1
    context.on_note(
        f"The features take {size_text(size)}, more than {sharding.above:.0%} of a node's object"
        f" store ({size_text(held)}): each of the {workers} workers holds its share of the videos,"
        " and a batch has of each share what is its due (--no-shard-features: all hold all)."
    )
    return workers


def _bytes_of(store: Store, features: FeatureNames) -> int:
    manifests = [read_manifest(store, features_folder(one)) for one in feature_names(features)]
    return sum(
        int(of.counts["rows"]) * int(of.counts["dim"]) * dtype_of(of.config).itemsize
        for of in manifests
    )


def _count_videos(store: Store, config: TemporalConfig) -> int:
    labels = load_fold(store, config.task, config.fold).values()
    return sum(of.split is Split.TRAIN for of in labels)
