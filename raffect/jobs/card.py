"""What a job's metadata say of its sweep: short words, which Ray's dashboard shows as they are.

The sweep's driver writes them every few seconds (publish.py); the Jobs page shows the name, which
has the best score and how far the sweep is, and a job's own page all of them. `submit` and `jobs
follow` read them from far away, and draw the table that the sweep has on this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from raffect.sweep.attributes import STATE_NAMES
from raffect.sweep.progress import Glance, RunningTrial, Standing

LONGEST = 1000
"""Of a value: Ray sends all metadata of all jobs with each look at its list of jobs."""
_NAME = "job_name"
_LIVE = ("running", "pace")
"""Of a sweep while it runs; what a job that has ended does not have."""
_DOT = " · "
_BASE = "the base configuration"
_STATES = {name: state for state, name in STATE_NAMES.items()}


def title_of(metadata: Mapping[str, str], job: str) -> str:
    """A job's name without the score."""
    return metadata.get(_NAME, job).partition(_DOT)[0]


def to_metadata(
    before: Mapping[str, str], standing: Standing, glance: Glance | None
) -> dict[str, str]:
    """A job's metadata with how its sweep stands; what they said of it before goes.

    What changes comes first: Ray's page of a job shows as much as fits on a line.
    """
    told = _describe(standing)
    if glance is not None:
        told |= _describe_running(glance)
    kept = {key: value for key, value in before.items() if key not in _LIVE}
    name = before.get(_NAME, "").partition(_DOT)[0]
    return {**told, **kept, **told, _NAME: _DOT.join([name, *_headline(standing, glance)])}


def glance_of(metadata: Mapping[str, str]) -> Glance | None:
    """What a screen shows of the running sweep; None when none runs, or it is told otherwise.

    Another version of raffect may write another form.
    """
    try:
        return _parse(metadata) if "pace" in metadata else None
    except (KeyError, ValueError):
        return None


def _headline(standing: Standing, glance: Glance | None) -> list[str]:
    first = glance.ahead if glance is not None else None
    best, trial = standing.best, str(standing.best_trial)
    if first is not None:
        best, trial = first.score, f"{first.trial}, running"
    found = [] if best is None else [f"{best:.4f} (trial {trial})"]
    return [*found, f"{standing.ended}/{standing.target}"]


def _describe(standing: Standing) -> dict[str, str]:
    found = [f"{count} {STATE_NAMES[state]}" for state, count in standing.states.items() if count]
    found += [f"{standing.left} to continue"] * bool(standing.left)
    told = {
        "trials": f"{', '.join(found) or 'none'} of {standing.target}",
        "hours": f"{standing.hours:.2f}, {standing.device_hours:.2f} of device time",
    }
    if standing.best is None:
        return told
    params = (f"{key}={_value(value)}" for key, value in standing.best_params.items())
    best = {"best": f"{standing.best:.4f} (trial {standing.best_trial})"}
    if standing.expected is not None:
        best["expected"] = f"{standing.expected:.4f} on new videos"
    return {**best, **told, "best_params": _shorten(", ".join(params)) or _BASE}


def _describe_running(glance: Glance) -> dict[str, str]:
    running = [
        f"{one.trial}: {one.epoch}/{one.epochs}"
        + ("" if one.score is None else f" {one.score:.4f}")
        for one in glance.running
    ]
    running += [f"{glance.more} more"] * bool(glance.more)
    return {
        "running": ", ".join(running) or "none",
        "pace": f"{glance.spent:.0f} s, {glance.standing.rate:.1f} trials/h",
    }


def _parse(metadata: Mapping[str, str]) -> Glance:
    counts, target = metadata["trials"].rsplit(" of ", 1)
    pairs = [part.split(" ", 1) for part in counts.split(", ") if part != "none"]
    states = {_STATES[name]: int(count) for count, name in pairs if name in _STATES}
    spent, rate = _numbers(metadata["pace"])
    hours, device_hours = _numbers(metadata["hours"])
    best = _numbers(metadata["best"]) if "best" in metadata else []
    standing = Standing(
        states=states,
        target=int(target),
        best=best[0] if best else None,
        best_trial=int(best[1]) if best else None,
        best_params=_parse_params(metadata.get("best_params", _BASE)),
        hours=hours,
        device_hours=device_hours,
        rate=rate,
    )
    running, more = [], 0
    for part in metadata["running"].split(", "):
        trial, sign, rest = part.partition(": ")
        if sign:
            epoch, epochs, *score = _numbers(rest.replace("/", " "))
            one = RunningTrial(int(trial), int(epoch), int(epochs), score[0] if score else None)
            running.append(one)
        elif part != "none":
            more = int(part.removesuffix(" more"))
    return Glance(standing, spent, tuple(running), more)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", text)]


def _parse_params(text: str) -> Mapping[str, Any]:
    if text == _BASE:
        return {}
    pairs = (part.partition("=") for part in re.split(r", (?=[\w.]+=)", text))
    return {key: _parse_value(value) for key, _, value in pairs}


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # Cut, or of a larger number than JSON writes.
        return text


def _value(value: Any) -> str:
    """As `--set` takes it; floats with the digits that matter."""
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
