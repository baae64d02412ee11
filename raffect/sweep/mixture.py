"""Trials of one sweep that were computed with different code, or by different numbers of workers.

Their scores differ by that alone, so that it is told wherever they are ranked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from raffect.context import OnNote
from raffect.errors import ConflictError
from raffect.sweep.records import Maker, TrialRow

_Fact = Callable[[Maker], str]


def mixture(makers: Mapping[tuple[Maker, ...], int]) -> list[str]:
    """What of that differs between trials with a score, in sentences; how many were made by what.

    Thousands of them have the same makers.
    """
    found = []
    if len(codes := _count(makers, Maker.describe)) > 1:
        found.append(f"Trials of different code: {_listed(codes)}. Scores differ by that, too.")
    if len(workers := _count(makers, _workers)) > 1:
        found.append(f"Trials by different workers: {_listed(workers)}. Their dropout differs.")
    return found


def tell_others(
    sweep: str, rows: Sequence[TrialRow], now: Maker, same_code: bool, on_note: OnNote
) -> None:
    """Say which trials were not computed as those that follow are.

    Raises:
        ConflictError: They have other code, and it must be the `same_code`.
    """
    makers = Counter(row.makers for row in rows)
    others = _count(makers, Maker.describe)
    others.pop(now.describe(), None)
    if others and same_code:
        raise ConflictError(
            f"The sweep {sweep!r} has trials of other code than {now.describe()}, which is"
            f" here: {_listed(others)}.",
            "the code of all its trials, as --require-same-code wants it",
            "Use that raffect, begin a sweep of another --name, or leave --require-same-code out:"
            " the leaderboard then says which trials differ.",
        )
    if others:
        on_note(
            f"This sweep has trials of other code: {_listed(others)}. Those to come are of"
            f" {now.describe()}: scores differ by that, too. (--require-same-code refuses it.)"
        )
    workers = _count(makers, _workers)
    workers.pop(_workers(now), None)
    if workers:
        on_note(
            f"This sweep has trials by other workers: {_listed(workers)}. Those to come are by"
            f" {_workers(now)}: their dropout differs."
        )


def _workers(maker: Maker) -> str:
    return f"{maker.workers} worker{'s' if maker.workers > 1 else ''}"


def _count(trials: Mapping[tuple[Maker, ...], int], fact: _Fact) -> Counter[str]:
    """Trials by a fact of what computed them; a trial may count for several."""
    found: Counter[str] = Counter()
    for makers, count in trials.items():
        found.update(dict.fromkeys(map(fact, makers), count))
    return found


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} of {text}" for text, count in counts.most_common())
