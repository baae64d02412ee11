"""Validation videos that the features' encoder was fine-tuned on: scores on them are too high.

The official splits differ by task: an EXPR training video may be a VA validation video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from raffect.affwild2.folds import count_seen, load_fold
from raffect.affwild2.tasks import Task
from raffect.store import DATASET, Store, encoder_folder, read_manifest
from raffect.store.layout import FEATURES
from raffect.store.manifest import find_manifest

Seen = Mapping[str, Sequence[int]]
"""By encoder: seen validation videos, and all."""


def find_seen(store: Store, sources: Mapping[str, str], task: Task, fold: str | None) -> Seen:
    """What the encoders have seen of a model's validation videos; those that saw none left out.

    Args:
        sources: What the model is made from (data.load_sources), by folder.
        fold: The model's.
    """
    found = {}
    for name, tuned_on in _tuned(store, sources):
        trained, validation = load_fold(store, Task.EXPR, tuned_on), load_fold(store, task, fold)
        seen, videos = count_seen(trained, validation)
        if seen:
            found[name] = (seen, videos)
    return found


def _tuned(store: Store, sources: Mapping[str, str]) -> Iterable[tuple[str, str | None]]:
    """The encoders that were fine-tuned on this dataset, each with its fold."""
    for folder in sources:
        if not folder.startswith(f"{FEATURES}/"):
            continue
        made = read_manifest(store, folder)
        name = str(made.config.get("encoder") or "")
        encoder = find_manifest(store, encoder_folder(name)) if name else None
        # Another encoder may have its name by now; a frozen one has no dataset.
        if (
            encoder is not None
            and encoder.digest() == made.sources.get(encoder_folder(name))
            and encoder.sources.get(DATASET) == sources[DATASET]
        ):
            yield name, encoder.config.get("fold")


def describe_seen(seen: Seen, fold: str | None) -> list[str]:
    """What users should know of it, and how to train without."""
    return [
        f"{count} of {videos} validation videos were used to fine-tune the encoder {name!r}: the"
        f" score is optimistic. To avoid it: `raffect finetune --name NEW --fold {fold or 'i/k'}`,"
        " `raffect extract --encoder NEW`, then train or tune on those features with that --fold."
        for name, (count, videos) in seen.items()
    ]
