"""The process that sends a sweep's runs to W&B: `python -m raffect.sweep.wandb_process`.

W&B's client belongs in a process of its own: it hooks into sys.exit and sys.excepthook, and its
atexit hook waits without limit for a server that is gone. Lines of JSON come on standard input;
its end means to send the rest and leave. An error ends the process, its last line on standard
output.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal, NotRequired, TypedDict

import wandb


class Message(TypedDict):
    """What to do with the run of a trial; `begin` also goes on with one."""

    do: Literal["begin", "log", "end"]
    id: str
    run: NotRequired[dict[str, Any]]
    """To begin: what else `wandb.init` is given."""
    step: NotRequired[int]
    """To log: the epoch, and its values."""
    values: NotRequired[dict[str, float]]
    failed: NotRequired[bool]
    """To end: whether the trial failed."""


def serve(finish_timeout: float) -> None:
    """Follow the messages on standard input; a run gets `finish_timeout` seconds at its end."""
    settings = wandb.Settings(
        console="off", silent=True, finish_timeout=finish_timeout, finish_timeout_raises=True
    )
    runs = {}
    for line in sys.stdin:
        message: Message = json.loads(line)
        run = message["id"]
        if message["do"] == "begin":
            # Runs of several trials are open at a time.
            runs[run] = wandb.init(
                id=run, **message["run"], reinit="create_new", settings=settings
            )
        elif message["do"] == "log":
            runs[run].log(message["values"], step=message["step"])
        else:
            runs.pop(run).finish(exit_code=int(message["failed"]))
    for left in runs.values():
        left.finish()


if __name__ == "__main__":
    try:
        serve(float(sys.argv[1]))
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        print(f"{type(error).__name__}: {first[:200]}", flush=True)
        sys.exit(1)
