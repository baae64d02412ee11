"""ablate: what each part of the method contributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raffect.cli.options import (
    AddressOption,
    ConfigOption,
    FeaturesOption,
    FoldOption,
    JsonOption,
    OverwriteOption,
    PostprocessOption,
    QuietOption,
    SetOption,
    StoreOption,
    TaskArgument,
    begin,
    in_fold,
    settings,
)
from raffect.context import DEFAULT_FEATURES

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.sweep.ablation_table import AblationRow
    from raffect.sweep.leaderboard import SweepView
    from raffect.sweep.progress import SweepProgress


def ablate(
    task: TaskArgument,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="SWEEP[:TRIAL]",
            help="The full model: a sweep's best trial, or a trial.",
            show_default="the recipe",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=VALUE]",
            help="Another row: a setting or group of settings, off (none, 0) or at VALUE; may be"
            " repeated.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds per row.", show_default="3")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the sweep.", show_default="TASK-ablation")
    ] = None,
    features: FeaturesOption = None,
    frozen: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Features of the encoder without fine-tuning; extracted if missing.",
            show_default="FEATURES-frozen",
        ),
    ] = None,
    fold: FoldOption = None,
    concurrent: Annotated[
        int | None,
        typer.Option(min=1, help="Trials that run at the same time.", show_default="what fits"),
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="GPUs per trial; 0.25 lets four share one.",
            show_default="1 if there are GPUs",
        ),
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as LaTeX (booktabs).")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")
    ] = None,
    postprocess: PostprocessOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the full model and variants without each of its parts, under several seeds.

    Run again, it continues; more seeds or rows extend the table.
    """
    from raffect.affwild2.csvfile import check_output
    from raffect.affwild2.tasks import parse_task
    from raffect.cli.progress import SweepTable
    from raffect.config import check_task, recipe
    from raffect.context import Context
    from raffect.engine import connect
    from raffect.jobs.publish import SweepPublisher
    from raffect.report.ablation import ablation_latex, ablation_table
    from raffect.report.tables import write_whole
    from raffect.settings import override
    from raffect.store.features import feature_names
    from raffect.store.layout import check_name
    from raffect.sweep.ablate import SETTINGS, find_base, plan_ablation
    from raffect.sweep.ablate import ablate as run
    from raffect.sweep.ablation_table import tabulate
    from raffect.sweep.frozen import make_frozen

    for file in filter(None, (latex, csv)):
        check_output(file)
    chosen = parse_task(task)
    called = check_name(name or ablation_name(chosen.value))
    how = override(SETTINGS, {"concurrent": concurrent, "gpus_per_trial": gpus_per_trial})
    target, screen = begin(store, quiet, as_json)
    origin = find_base(target, base, chosen, features) if base else None
    used = origin.features if origin else features or [DEFAULT_FEATURES]
    published = recipe(chosen, len(feature_names(used)))
    options = in_fold(fold) | ({} if postprocess is None else {"postprocess": postprocess})
    start = settings(origin.config if origin else published, config, changes, options)
    check_task(start, chosen, f"`raffect ablate {chosen}`")
    wanted = plan_ablation(target, start, used, without or [], frozen)
    for note in wanted.notes:
        screen.path(note)
    for one in wanted.frozen.made if wanted.frozen else ():
        if one.encoder is not None:
            with screen.stage(f"Features of the frozen encoder: {one.name}") as bar:
                context = Context(address, progress=bar.tick, on_note=screen.say)
                make_frozen(target, one, context)
    title = f"Ablating {chosen.value.upper()}"
    with (
        SweepTable(screen, title) as table,
        SweepPublisher(target, called, chosen.value, table.say) as publisher,
    ):

        def on_update(progress: SweepProgress) -> None:
            table.update(progress)
            publisher.update(progress)

        context = Context(address, overwrite, on_note=table.say)
        view = run(target, called, wanted, seeds, how, on_update, context)
        publisher.publish_finished(view, lambda: connect(address))
    rows = tabulate(target, view)
    show_ablation(screen, view, rows)
    for path, text in (
        (latex, ablation_latex(rows, chosen, called)),
        (csv, ablation_table(rows).csv()),
    ):
        if path is not None:
            screen.path(f"{write_whole(path, text)} written.")
    screen.path(f"  raffect report {called} --store {target.uri}")
    if as_json:
        screen.json([row.to_json() for row in rows])


def ablation_name(task: str) -> str:
    """Default name of an ablation's sweep."""
    return f"{task}-ablation"


def show_ablation(screen: Screen, view: SweepView, rows: list[AblationRow]) -> None:
    """Print the table of an ablation."""
    from raffect.affwild2.tasks import SPECS
    from raffect.sweep.ablation import is_tried_again, short_name
    from raffect.text import count_text

    screen.styled(
        f"[bold]{view.task.value.upper()}[/] ablation {view.name!r}:"
        f" {SPECS[view.task].score_name}, best epoch on validation"
    )
    cells = [
        [
            short_name(row.name),
            _mean(row),
            "" if row.difference is None else f"{row.difference:+.4f}",
            "" if row.interval is None else "[{:+.4f}, {:+.4f}]".format(*row.interval),
            count_text(row.parameters),
        ]
        for row in rows
    ]
    screen.table(["", "score", ">to full", "95 % interval", ">weights"], cells)
    seeds = len(rows[0].seeds) if rows else 0
    over = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed each"
    screen.styled(
        f"[dim]{over}; the interval is of the paired difference, over resamples of the validation"
        " videos.[/]"
    )
    for row in rows:
        if row.reason:
            again = " Run the command again to retry it." * is_tried_again(row.reason)
            screen.path(f"{row.name}: {len(row.known)} of {seeds} seeds; {row.reason}{again}")


def _mean(row: AblationRow) -> str:
    if row.mean is None:
        return "failed" if row.reason else "–"
    return f"{row.mean:.4f}" + ("" if row.spread is None else f" ± {row.spread:.4f}")
