"""How a sweep's run ends: the manifest that makes it exist, or a summary of what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from raffect.config import build
from raffect.errors import RaffectError
from raffect.store import FileEntry, Stage
from raffect.store.stage import Part
from raffect.sweep.attributes import EPOCH, FILES, ORIGIN, REASON
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.reasons import summarise
from raffect.sweep.study import SweepStudy
from raffect.sweep.trial import CHECKPOINT


def finish(stage: Stage, study: SweepStudy, name: str) -> SweepView:
    """Make the sweep exist: checkpoints away, the study in one object, the manifest last.

    Raises:
        RaffectError: There is no model in it.
    """
    finished = [row for row in study.finished() if ORIGIN not in row.user_attrs]
    scored = [row for row in finished if row.values]
    if not scored:
        raise too_many_failed(name, list(_failures(finished).values()))
    inside = f"/{CHECKPOINT}/"
    files = stage.store.files(f"{stage.folder}/trials")
    for folder in {key.partition(inside)[0] + inside[:-1] for key in files if inside in key}:
        stage.store.delete(folder)
    study.close()
    best = max(scored, key=score_of)
    counts = {
        "trials": len(finished),
        "states": dict(Counter(row.state.name for row in finished)),
        "best": {"trial": best.number, "score": score_of(best)},
    }
    stage.finish(
        [*_models(finished), *_study_files(stage)],
        counts=counts,
        notes={"failures": _failures(finished)},
    )
    return load_sweep(stage.store, name)


def score_of(trial: FrozenTrial) -> float:
    """The score of a trial that has one: the first objective."""
    return float(trial.values[0])


def seconds_of(trial: FrozenTrial) -> float:
    """Time of a trial's epochs."""
    epochs = (value for key, value in trial.user_attrs.items() if key.startswith(EPOCH))
    return float(sum(epoch["seconds"] for epoch in epochs))


def _models(finished: Sequence[FrozenTrial]) -> list[Part]:
    """Files of the trials' models, with the digests of when they were written."""
    entries = [entry for row in finished for entry in row.user_attrs.get(FILES, ())]
    return [Part(entry=build(FileEntry, entry)) for entry in entries]


def _study_files(stage: Stage) -> list[Part]:
    parts = []
    for key in stage.store.files(f"{stage.folder}/study"):
        name = key.removeprefix(f"{stage.folder}/")
        parts.append(Part(entry=FileEntry.of(name, stage.store.read_bytes(key))))
    return parts


def _failures(finished: Sequence[FrozenTrial]) -> dict[str, str]:
    """Reasons by trial number."""
    failed = (row for row in finished if REASON in row.user_attrs)
    return {str(row.number): row.user_attrs[REASON] for row in failed}


def too_many_failed(
    name: str, reasons: list[str], allowed: int | None = None, succeeded: int = 0
) -> RaffectError:
    """What to tell the user when trials fail.

    Args:
        name: The sweep.
        reasons: Of the failed trials.
        allowed: What the user set as too many.
        succeeded: Trials that did not fail.
    """
    which = f"{len(reasons)} trials" if succeeded else f"All {len(reasons)} trials"
    fewer = f"; fewer than {allowed} failures (--max-failures)" if allowed else ""
    again = "; or give the command again: it goes on with other trials" if succeeded else ""
    return RaffectError(
        f"{which} of the sweep {name!r} failed:\n{summarise(reasons)}",
        f"a base configuration and a space in which trials can run{fewer}",
        "Change what the reason names with --set or --space, and give another --name or "
        f"--overwrite{again}.",
    )
