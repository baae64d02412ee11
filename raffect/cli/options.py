"""Options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from raffect.context import DEFAULT_STORE, STORE_VARIABLE
from raffect.settings import C, flatten, override, parse_assignments, read_yaml

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        help="A folder or s3://bucket/prefix.",
        show_default=f"${STORE_VARIABLE}, else {DEFAULT_STORE}",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="A Ray cluster.",
        show_default="$RAY_ADDRESS, else this machine",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
# Accepted by the commands that need no store or no Ray, so that one set of options fits them all.
UnusedStore = Annotated[str | None, typer.Option("--store", hidden=True)]
UnusedAddress = Annotated[str | None, typer.Option("--address", hidden=True)]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Make it anew where other settings made it before.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of settings; --set goes on top."),
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="va, expr or au")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Ray workers.")]
AnnotationsOption = Annotated[
    Path, typer.Option("--annotations", metavar="DIR", help="Root of the challenge folders.")
]


def settings(base: C, file: Path | None, changes: list[str] | None, options: dict[str, Any]) -> C:
    """The settings that a user asked for.

    Raises:
        SettingsError: Everything that is wrong with them, listed at once.
    """
    tree = flatten(read_yaml(file)) if file is not None else {}
    return override(base, {**tree, **options, **parse_assignments(changes or [])})
