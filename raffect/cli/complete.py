"""What a shell completes after TAB: names that the store holds, tasks, commands with settings.

The store is that of --store on the line, else the usual one. A shell shows nothing of an error:
where no store answers, nothing is completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from raffect.errors import RaffectError

Complete = Callable[[typer.Context, str], list[str]]
TASKS = ("va", "expr", "au")


def stored(*groups: str) -> Complete:
    """Completes the names in groups of the store, such as `sweeps`."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from raffect.store import Store

        try:
            store = Store.open(ctx.params.get("store"))
            names = [name for group in groups for name in store.names(group)]
        except RaffectError:
            return []
        return _beginning(names, incomplete)

    return complete


def one_of(words: Iterable[str]) -> Complete:
    """Completes these words."""
    return lambda ctx, incomplete: _beginning(words, incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(incomplete)]
