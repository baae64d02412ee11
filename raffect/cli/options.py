"""Options that several commands share, each described once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from typer.models import OptionInfo

from raffect.cli.complete import TASKS, one_of, stored
from raffect.cli.screen import Screen
from raffect.context import DEFAULT_FEATURES, DEFAULT_STORE, STORE_VARIABLE
from raffect.errors import NotThereError, SettingsError
from raffect.settings import C, flatten, override, parse_assignments, read_yaml
from raffect.text import printable

if TYPE_CHECKING:
    from raffect.affwild2.tasks import Task
    from raffect.config import TemporalConfig
    from raffect.store import Store

_WORDS = {bool: "", int: "N", float: "X", str: "NAME", Path: "FILE"}
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        help="The store: a folder or s3://bucket/prefix.",
        show_default=f"${STORE_VARIABLE}, else {DEFAULT_STORE}",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Address of a Ray cluster.",
        show_default="$RAY_ADDRESS, else this machine",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Start over if it is finished or has other settings."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of settings; --set overrides it."),
]
PostprocessOption = Annotated[
    str | None,
    typer.Option(
        "--postprocess",
        metavar="none|fit",
        help="fit: smooth, delay and threshold predictions; fitted on one half of the validation"
        " videos, scored on the other.",
        show_default="none",
    ),
]
_COMPLETE_TASK = one_of(TASKS)
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="va, expr or au", autocompletion=_COMPLETE_TASK)
]
TasksArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="TASK ...", help="One or several of va, expr, au.", autocompletion=_COMPLETE_TASK
    ),
]
COMPLETE_SWEEP = stored("sweeps")
COMPLETE_MODEL = stored("models", "sweeps")
FeaturesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        metavar="NAME",
        autocompletion=stored("features"),
        help="Features to train on; repeat to use several sets side by side.",
        show_default=DEFAULT_FEATURES,
    ),
]
FoldOption = Annotated[
    str | None,
    typer.Option("--fold", metavar="I/K", help="Validate on fold I of K, train on the rest."),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Number of Ray workers.")]
ShardOption = Annotated[
    bool | None,
    typer.Option(
        "--shard-features/--no-shard-features",
        rich_help_panel="Sharding",
        help="Split the videos over the workers: each holds its share of the features only.",
        show_default="by --shard-above; as it began",
    ),
]
ShardAboveOption = Annotated[
    float,
    typer.Option(
        "--shard-above",
        rich_help_panel="Sharding",
        min=0.0,
        metavar="SHARE",
        help="Shard features that take more than this share of a node's object store.",
    ),
]
AnnotationsOption = Annotated[
    str,
    typer.Option(
        "--annotations",
        metavar="DIR",
        help="Root of the challenge folders, or s3://bucket/prefix.",
    ),
]
FirstFrameOption = Annotated[
    int | None,
    typer.Option(
        "--first-frame",
        min=0,
        max=1,
        help="Number of the first frame in the crops' names.",
        show_default="1, and crops of frame 0 are refused",
    ),
]


def fits_all_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add hidden --store and --address to commands that need none, so that scripts can pass both.

    Metavars are shortened to one word, which leaves room for the help text at 80 columns.
    """
    signature = inspect.signature(command, eval_str=True)
    for parameter in signature.parameters.values():
        _shorten_help(parameter.annotation)
    unused = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(f"--{name}", hidden=True)],
        )
        for name in ("store", "address")
        if name not in signature.parameters
    ]

    @wraps(command)
    def accepting(**options: Any) -> None:
        for parameter in unused:
            options.pop(parameter.name, None)
        command(**options)

    # typer reads the options from the signature.
    parameters = [*signature.parameters.values(), *unused]
    vars(accepting)["__signature__"] = signature.replace(parameters=parameters)
    return accepting


def _shorten_help(annotation: Any) -> None:
    """Set a short metavar where typer would make up a long one (`<int range>`)."""
    if get_origin(annotation) is not Annotated:
        return
    kind, *details = get_args(annotation)
    kinds = {kind, *get_args(kind)}
    for info in details:
        if isinstance(info, OptionInfo) and info.metavar is None:
            words = [word for of, word in _WORDS.items() if of in kinds]
            info.metavar = words[0] if words else None


def begin(
    store: str | None, quiet: bool, as_json: bool = False, may_be_new: bool = False
) -> tuple[Store, Screen]:
    """The store and the screen of a command.

    Raises:
        NotThereError: The store is a folder that does not exist, and must exist.
    """
    from raffect.store import Store
    from raffect.store.retry import OUTAGE

    screen, target = Screen(quiet, as_json), Store.open(store)
    if target.is_absent and not may_be_new:
        raise NotThereError(
            f"The store {target.uri} does not exist.",
            f"a folder that `raffect prepare` has made; without --store it is ${STORE_VARIABLE},"
            f" or {DEFAULT_STORE} where the command is given",
            "Correct --store, or create the store: raffect prepare --images DIR --annotations DIR"
            f" --store {target.uri}",
        )
    OUTAGE.on_note = None if screen.silent else screen.note
    return target, screen


def settings(
    base: C,
    file: Path | None,
    changes: list[str] | None,
    options: Mapping[str, object] | None = None,
) -> C:
    """The settings that a user asked for.

    Raises:
        SettingsError: Everything that is wrong with them, listed at once.
    """
    tree = flatten(read_yaml(file)) if file is not None else {}
    found = {**tree, **(options or {}), **flatten(parse_assignments(changes or []))}
    if nothing := [key for key, value in found.items() if value == {}]:
        raise SettingsError(
            f"{printable(', '.join(nothing))} = {{}}: an empty mapping.",
            "the settings that change",
            "Name them, or leave the key out.",
        )
    return override(base, found)


def in_fold(fold: str | None) -> dict[str, object]:
    """The setting of a FoldOption."""
    return {} if fold is None else {"fold": fold}


def temporal_settings(
    command: str,
    task: Task,
    file: Path | None,
    changes: list[str] | None,
    options: Mapping[str, object] | None = None,
    sets: int = 1,
) -> TemporalConfig:
    """The recipe of the task that a command's argument names, with the user's changes.

    It is that of so many sets of features.

    Raises:
        SettingsError: As `settings`; or they are of another task.
    """
    from raffect.config import check_task, recipe

    chosen = settings(recipe(task, sets), file, changes, options)
    check_task(chosen, task, f"`raffect {command} {task}`")
    return chosen
