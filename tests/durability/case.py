"""One run: a sweep is hit at a random moment, given again until it is finished, and checked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from tests.durability import driver, faults
from tests.durability.checks import Verdict, check
from tests.durability.command import Command, Event
from tests.durability.faults import Fault, Kind, Nodes
from tests.durability.place import Place, prepared
from tests.durability.state import read_moment

EVENTS = (1, 30)
"""Things that have happened in the sweep when it is hit; from 32 to about 60 happen in all."""
AT_THE_END = 0.15
"""How often the command is hit when all trials have ended, and it is about to make them whole."""
PAUSE_S = 0.6
"""At most so long after the last of them: more than an epoch."""
COMMAND_S = 300.0
"""Of a command that takes half a minute on a machine of its own."""
MOST_COMMANDS = 5


@dataclass
class Outcome:
    """A run.

    Attributes:
        kind: What was killed.
        seed: Of the run's random numbers.
        events: Things that had happened before.
        damage: What exactly was killed.
        finished: Trials that had ended then.
        running: Trials that were running then.
        exits: Exit codes of the commands; None for the one that was killed.
        complaints: What each command said beside its events.
        verdict: How it came out; None when it was never finished.
        seconds: Of the run.
        problems: What went wrong, one line each.
    """

    kind: Kind
    seed: int
    events: int = 0
    damage: str = ""
    finished: int = 0
    running: int = 0
    exits: list[int | None] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def run_case(kind: Kind, seed: int, keep: bool = False) -> Outcome:
    """Make a run; what goes wrong in it is in the outcome."""
    began = time.monotonic()
    outcome = Outcome(kind, seed)
    rng = random.Random(f"{kind}-{seed}")
    with prepared(keep) as place:
        surroundings: AbstractContextManager[Nodes | None] = (
            faults.cluster(place, rng.choice((2, 3))) if kind == "node" else nullcontext()
        )
        with surroundings as nodes:
            try:
                _run(place, _fault(kind, nodes), rng, outcome)
            except Exception as error:
                outcome.problems.append(f"{type(error).__name__}: {error}")
        outcome.complaints = [command.complaint for command in place.commands]
        if keep:
            outcome.problems.append(f"kept in {place.folder}")
    outcome.seconds = time.monotonic() - began
    return outcome


def _fault(kind: Kind, nodes: Nodes | None) -> Fault:
    if nodes is not None:
        return nodes.kill
    return {"driver": faults.kill_driver, "actor": faults.kill_actor, "s3": faults.kill_s3}[kind]


def _run(place: Place, fault: Fault, rng: random.Random, outcome: Outcome) -> None:
    command = place.give_command()
    if not command.wait_until(_moment(outcome.kind, rng), COMMAND_S):
        raise RuntimeError(f"the command ended by itself: {command.complaint[-300:]}")
    time.sleep(rng.uniform(0, PAUSE_S))
    told = list(command.events)
    outcome.events = len(told)
    outcome.damage = fault(place, rng)
    hit = read_moment(place.store)
    outcome.finished, outcome.running = len(hit.finished), hit.running
    finish(place, command, outcome.exits)
    outcome.verdict = check(place.store, hit, told)
    outcome.problems += outcome.verdict.problems


def _moment(kind: Kind, rng: random.Random) -> Callable[[list[Event]], bool]:
    """When to hit, by what has happened: the same on a fast machine and on a slow one."""
    number = rng.randint(*EVENTS)
    if kind in ("driver", "s3") and rng.random() < AT_THE_END:
        return lambda events: sum(event.kind == "finished" for event in events) == driver.TRIALS
    return lambda events: len(events) >= number


def finish(
    place: Place, command: Command, exits: list[int | None], most: int = MOST_COMMANDS
) -> None:
    """Run the command again until it ends well; `exits` takes how each ended.

    Raises:
        RuntimeError: It never does, or ends with more than a message.
    """
    code: int | None = command.wait(COMMAND_S)
    if code is not None and code < 0:
        code = None
    while True:
        exits.append(code)
        said = place.commands[-1].complaint
        if code not in (0, 2, None) or (code == 2 and "Traceback" in said):
            raise RuntimeError(f"exit {code}: {said[-300:]}")
        # Also after a command that got over it: given again, it finds nothing to do.
        if code == 0 and len(exits) > 1:
            return
        if len(exits) == most:
            raise RuntimeError("given again and again, it does not finish")
        code = place.give_command().wait(COMMAND_S)
