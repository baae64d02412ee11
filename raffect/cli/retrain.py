"""retrain: seeing how sure a trial's score is."""

from __future__ import annotations

from dataclasses import asdict
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated

import typer

from raffect.cli.options import (
    COMPLETE_SWEEP,
    AddressOption,
    JsonOption,
    QuietOption,
    StoreOption,
    begin,
)
from raffect.sweep.settings import RETRAIN_SEEDS
from raffect.text import listed

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.paired import Paired
    from raffect.sweep.retrain import Retraining, SeedResult

_SAME = {
    None: "",
    True: "its own: identical to the bit",
    False: "its own: differs",
}


def _paired(found: Paired) -> list[str]:
    low, high = found.interval
    return [f"{found.difference:+.4f}", f"[{low:+.4f}, {high:+.4f}]"]


def retrain(
    trial: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP[:TRIAL]",
            autocompletion=COMPLETE_SWEEP,
            help="A sweep (its best trial) or one of its trials.",
        ),
    ],
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of seeds: the trial's own and the next ones.")
    ] = RETRAIN_SEEDS,
    store: StoreOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a trial's configuration again, with its own seed and others."""
    from raffect.context import Context
    from raffect.sweep.retrain import against_recipe, plan_retraining
    from raffect.sweep.retrain import retrain as run

    target, screen = begin(store, quiet, as_json)
    wanted = plan_retraining(target, trial)
    with screen.stage(f"Training trial {wanted.row.number} of {wanted.sweep} again") as bar:
        done: list[SeedResult] = []

        def on_seed(result: SeedResult) -> None:
            done.append(result)
            bar.tick(len(done), seeds)
            bar.tell(f"seed {result.seed}: {result.score:.4f}")

        context = Context(address, on_note=screen.say)
        found = run(target, wanted, wanted.seeds(seeds), on_seed, context)
    found, whole = against_recipe(target, wanted, found)
    _show_seeds(screen, wanted, found, whole, target.uri)
    if as_json:
        scores = [one.score for one in found]
        about = {
            "sweep": wanted.sweep,
            "trial": wanted.row.number,
            "score": wanted.row.score,
            "mean": mean(scores),
            "spread": stdev(scores) if len(scores) > 1 else None,
            "versus_recipe": None if whole is None else asdict(whole),
        }
        screen.json({**about, "seeds": [asdict(one) for one in found]})


def _show_seeds(
    screen: Screen, wanted: Retraining, found: list[SeedResult], whole: Paired | None, uri: str
) -> None:
    rows = [
        [
            str(one.seed),
            f"{one.score:.4f}",
            str(one.best_epoch),
            *([] if one.versus_recipe is None else _paired(one.versus_recipe)),
            _SAME[one.same],
        ]
        for one in found
    ]
    beside = [] if whole is None else [">to recipe", "95 % interval"]
    screen.table([">seed", ">score", ">epoch", *beside, ""], rows)
    scores = [one.score for one in found]
    spread = f" ± {stdev(scores):.4f}" if len(scores) > 1 else ""
    assert wanted.row.score is not None
    screen.styled(
        f"Mean {mean(scores):.4f}{spread} over {len(scores)} seeds; on the leaderboard:"
        f" {wanted.row.score:.4f} [dim](best epoch on validation, each)[/]"
    )
    if whole is not None:
        gap, interval = _paired(whole)
        screen.path(f"Mean against the recipe: {gap} {interval}, paired over validation videos")
    screen.path(f"Models: {listed([one.model for one in found])}")
    screen.path(f"  raffect trials {wanted.sweep} --store {uri}")
