"""board: the store's sweeps as a page that is kept current."""

from __future__ import annotations

from typing import Annotated

import typer

from raffect.cli.options import QuietOption, StoreOption, UnusedAddress

PANEL = "Sweeps"


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=PANEL)(board)


def board(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8266,
    store: StoreOption = None,
    quiet: QuietOption = False,
    address: UnusedAddress = None,
) -> None:
    """Show live leaderboards and reports in a browser, until Ctrl-C."""
    from raffect.cli.screen import Screen
    from raffect.store import Store
    from raffect.web.optuna_dashboard import LOOPBACK
    from raffect.web.serve import serve

    screen = Screen(quiet)
    if host not in LOOPBACK:
        screen.say("[yellow]Whoever reaches this machine can look: there is no login.[/]")
    serve(Store.open(store), host, port, screen.path, screen.path)
