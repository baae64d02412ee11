"""The text of a journal's entries: their checksums, and how those of ended trials are condensed.

A trial's hundred entries say in the end what one can say. A compaction condenses the trials that
had ended before the compaction before it: the entry that created such a trial says all of it, and
its others are blank lines, so that every entry keeps its number. What was compacted since is there
word for word, for those who read on; who has read nothing for longer makes up what is blank.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from pydantic_core import from_json

# Optuna's codes of entries (JournalOperation).
CREATE_STUDY, DELETE_STUDY, _STUDY_USER, _STUDY_SYSTEM, CREATE_TRIAL = range(5)
_PARAM, _STATE, _VALUE, _USER, _SYSTEM, _DISCARD = range(5, 11)

NOTHING = {"op_code": DELETE_STUDY, "worker_id": "", "study_id": -1}
"""What Optuna reads for a blank line: it deletes a study that does not exist, which is ignored."""
_CONDENSED = '{"was":"'
_SEAL = re.compile(r',"sum":"([0-9a-f]+)-([0-9a-f]{8})"}')
_SEAL_LENGTH = 32
"""Characters, at most; the seal of a short line is found in fewer."""
_LIKE_A_SEAL = re.compile(r',"sum":|[0-9a-f]+-[0-9a-f]{8}"}$')


def parse(line: str) -> Any:
    """An entry. Pydantic's parser takes a third of the time, and refuses half a surrogate pair."""
    try:
        return from_json(line, cache_strings="keys")
    except ValueError:
        return json.loads(line)


def encode(lines: Sequence[str]) -> bytes:
    """The lines as a segment's content."""
    return "".join(f"{line}\n" for line in lines).encode()


def seal(lines: Sequence[str], start: int) -> list[str]:
    """The lines of a segment whose first entry has the number `start`, with their checksums."""
    left = range(len(lines) - 1, -1, -1)
    return [
        f'{line[:-1]},"sum":"{after:x}-{_checksum(line, number, after)}"}}'
        for number, (line, after) in enumerate(zip(lines, left, strict=True), start)
    ]


def unseal(blob: bytes, start: int, count: int | None) -> tuple[list[str], str]:
    """A segment's lines that are as they were written, up to the first that is not, and why.

    Args:
        start: Number of its first entry.
        count: Lines of a compacted segment, which may be blank; None: as the last line says.
    """
    left = 0
    lines = blob.decode("utf-8", "replace").split("\n")
    if lines.pop():
        # A line that was cut off is no blank one.
        lines.append("{")
    for index, line in enumerate(lines):
        if not line and count is not None:
            continue
        sealed = _SEAL.fullmatch(line, max(0, line.rfind(",")))
        if sealed is not None:
            left = int(sealed[1], 16)
            whole = _checksum(f"{line[: sealed.start()]}}}", start + index, left) == sealed[2]
        else:
            left = 0
            whole = not _LIKE_A_SEAL.search(line[-_SEAL_LENGTH:]) and _is_entry(line)
        if not whole:
            return lines[:index], f"is damaged at line {index + 1}"
    written = len(lines) + left if count is None else count
    if len(lines) != max(1, written):
        return lines, "is cut off" if lines else "is empty"
    return lines, ""


def _checksum(line: str, number: int, left: int) -> str:
    return f"{zlib.crc32(f'{number} {left} {line}'.encode()):08x}"


def _is_entry(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def holds(content: Sequence[str], lines: Sequence[str], start: int) -> bool:
    """Whether a journal has these sealed lines from the number `start` on, condensed or not."""
    there = content[start : start + len(lines)]
    if len(there) < len(lines):
        return False
    other = [n for n, (a, b) in enumerate(zip(lines, there, strict=True), start) if a != b]
    if not other:
        return True
    condensed = (line for line in content if line.startswith(_CONDENSED))
    was = {mark for line in condensed for mark in json.loads(line)["was"].split()}
    return all(_mark(lines[number - start], number) in was for number in other)


def _mark(line: str, number: int) -> str:
    return f"{number}:{_checksum(line, number, 0)}"


@dataclass
class _Trial:
    """A trial as entries tell it; not `plain` if Optuna may refuse one of them."""

    entry: dict[str, Any]
    numbers: list[int] = field(default_factory=list)
    plain: bool = True
    ended: bool = False


def condense(lines: list[str], end: int) -> list[str]:
    """The same journal, with one entry for each trial that ended before the number `end`.

    Optuna's replay of it gives the same study. What it might refuse stays as it is: entries of a
    trial that had ended, that ran already, or whose range of a parameter is another one.
    """
    trials: list[_Trial | None] = []
    ranges: dict[str, str] = {}
    studies: set[str] = set()
    for number, line in enumerate(lines[:end]):
        if not line:
            continue
        if line.startswith(_CONDENSED):
            trials.append(None)
            continue
        entry = json.loads(line)
        code = entry.get("op_code")
        if code == CREATE_STUDY:
            studies.add(entry["study_name"])
        elif code == CREATE_TRIAL and entry["study_id"] < len(studies) == 1:
            state = entry.get("state", TrialState.RUNNING.value)
            ended = TrialState(state).is_finished()
            entry.pop("sum", None)
            trials.append(_Trial(entry, [number], not entry.get("params"), ended))
            for name, text in entry.get("distributions", {}).items():
                ranges.setdefault(name, text)
        elif code in (_PARAM, _STATE, _VALUE, _USER, _SYSTEM):
            trial = trials[entry["trial_id"]] if entry["trial_id"] < len(trials) else None
            if trial is not None and not trial.ended:
                trial.numbers.append(number)
                _take_in(trial, entry, code, ranges)
        elif code not in (_STUDY_USER, _STUDY_SYSTEM, _DISCARD):
            # A study that was deleted, several of them, or what is not known here.
            return lines
    found = list(lines)
    for number, trial in enumerate(trials):
        # An entry alone is as short as it can be.
        if trial is not None and trial.plain and trial.ended and len(trial.numbers) > 1:
            was = " ".join(_mark(lines[at], at) for at in trial.numbers)
            for at in trial.numbers:
                found[at] = ""
            first = trial.numbers[0]
            found[first] = _line({"was": was, "trial": number, **trial.entry}, first)
    return found


def _line(entry: Mapping[str, Any], number: int) -> str:
    return seal([json.dumps(entry, separators=(",", ":"))], number)[0]


def read_on(known: list[str], content: Sequence[str]) -> list[str]:
    """The lines of a journal, of which the first ones are `known`, for a replay that read these.

    Lines after these that are blank, as their trial had begun before, say what became of it.
    """
    start = len(known)
    found = [*known, *content[start:]]
    if not known or "" not in content[start:]:
        return found
    for at, line in enumerate(content[:start]):
        if not line.startswith(_CONDENSED) or known[at] == line:
            continue
        whole = json.loads(line)
        numbers = [int(mark.partition(":")[0]) for mark in whole["was"].split()]
        blank = [number for number in numbers if number >= start]
        if blank:
            before = _Trial(json.loads(known[at]))
            for number in numbers[1:]:
                if number < start and known[number]:
                    entry = json.loads(known[number])
                    _take_in(before, entry, entry["op_code"], {})
            made_up = list(_changes(before.entry, whole))
            for number, entry in zip(blank[-len(made_up) :], made_up, strict=True):
                found[number] = _line(
                    {**entry, "worker_id": "", "trial_id": whole["trial"]}, number
                )
    return found


def _changes(before: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries after which a trial is what it became, at most as many as there were."""

    def new(name: str) -> Iterator[tuple[str, Any]]:
        had = before.get(name, {})
        for key, value in whole.get(name, {}).items():
            # As text: NaN is not NaN.
            if key not in had or json.dumps(had[key]) != json.dumps(value):
                yield key, value

    if whole["datetime_start"] != before["datetime_start"]:
        start = {"datetime_start": whole["datetime_start"], "values": None}
        yield {"op_code": _STATE, "state": TrialState.RUNNING.value, **start}
    for key, value in new("params"):
        of = {"param_value_internal": value, "distribution": whole["distributions"][key]}
        yield {"op_code": _PARAM, "param_name": key, **of}
    for key, value in new("intermediate_values"):
        yield {"op_code": _VALUE, "step": int(key), "intermediate_value": value}
    for key, value in new("user_attrs"):
        yield {"op_code": _USER, "user_attr": {key: value}}
    for key, value in new("system_attrs"):
        yield {"op_code": _SYSTEM, "system_attr": {key: value}}
    end = {"values": whole.get("values"), "datetime_complete": whole["datetime_complete"]}
    yield {"op_code": _STATE, "state": whole["state"], **end}


def _take_in(trial: _Trial, entry: dict[str, Any], code: int, ranges: dict[str, str]) -> None:
    """Add what an entry says to the one that created the trial."""
    whole = trial.entry

    def of(name: str) -> dict[str, Any]:
        found: dict[str, Any] = whole.setdefault(name, {})
        return found

    if code == _PARAM:
        name, text = entry["param_name"], entry["distribution"]
        trial.plain &= ranges.setdefault(name, text) == text
        of("params")[name] = entry["param_value_internal"]
        of("distributions")[name] = text
    elif code == _VALUE:
        of("intermediate_values")[str(entry["step"])] = entry["intermediate_value"]
    elif code in (_USER, _SYSTEM):
        of("user_attrs" if code == _USER else "system_attrs").update(
            entry["user_attr" if code == _USER else "system_attr"]
        )
    else:
        state = TrialState(entry["state"])
        runs = whole.get("state", TrialState.RUNNING.value) == TrialState.RUNNING.value
        trial.ended = state.is_finished()
        trial.plain &= trial.ended or (state is TrialState.RUNNING and not runs)
        whole["state"] = state.value
        for name in ("datetime_start", "datetime_complete"):
            if name in entry:
                whole[name] = entry[name]
        if entry["values"] is not None:
            whole["value"], whole["values"] = None, entry["values"]
