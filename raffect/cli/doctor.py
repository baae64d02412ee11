"""doctor: what is wrong with a machine, a cluster or a store, and what to do about it."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from raffect.cli.options import AddressOption, JsonOption, QuietOption, StoreOption
from raffect.cli.screen import Screen
from raffect.errors import RaffectError

if TYPE_CHECKING:
    from raffect.doctor.findings import Finding

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Features that the next sweep will use.",
            show_default="the largest",
        ),
    ] = None,
    store: StoreOption = None,
    address: AddressOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show the checks that pass.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check this machine, or a cluster and each of its nodes; exit code 2 if a check fails."""
    from raffect.doctor.examine import examine

    screen = Screen(quiet, as_json)
    with screen.stage("Examining") as bar:
        findings = examine(address, store, features, tell=bar.tell)
    bad = [finding for finding in findings if finding.state == "fail"]
    if as_json:
        names = ("place", "check", "state", "found", "next_step")
        screen.json([{name: str(getattr(one, name)) for name in names} for one in findings])
    elif quiet:
        for finding in bad:
            sys.stderr.write(f"{finding.place}: {finding.check}: {finding.found}\n")
    else:
        _show(screen, findings, verbose)
    if bad:
        raise typer.Exit(RaffectError.exit_code)


def _show(screen: Screen, findings: list[Finding], verbose: bool) -> None:
    for place, group in groupby(findings, lambda one: one.place):
        found = list(group)
        shown = found if verbose else [one for one in found if one.state != "pass"]
        passes = sum(one.state == "pass" for one in found)
        screen.styled(f"\n[bold]{escape(place)}[/]  [dim]{passes} of {len(found)} checks pass[/]")
        if shown:
            screen.console.print(_table(shown))
    counts = Counter(str(finding.state) for finding in findings)
    parts = (f"[{colour}]{counts[state]} {state}[/]" for state, colour in _COLOURS.items())
    hint = "" if verbose else "  [dim](--verbose shows the checks that pass)[/]"
    screen.styled(f"\n{', '.join(parts)}{hint}")


def _table(findings: list[Finding]) -> Table:
    # Fixed widths align the columns of all tables.
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", width=4)
    table.add_column("check", width=17)
    table.add_column("found → what to do", overflow="fold")
    for one in findings:
        state = Text(str(one.state), style=_COLOURS[str(one.state)])
        table.add_row(state, one.check, Text(one.found))
        if one.next_step:
            table.add_row("", "", Text(f"→ {one.next_step}"))
    return table
