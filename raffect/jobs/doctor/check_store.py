"""Checks of the store, from the driver and from each node."""

from __future__ import annotations

from raffect.jobs.doctor.check_machine import check_server_clock
from raffect.jobs.doctor.facts import Step, StoreVisit
from raffect.jobs.doctor.findings import Finding, failed, passed, warned

SLOW_MS = 1000.0
_BASIC = ("connect", "write", "read", "list")
"""Where these fail, it can't be told which store is met."""
_NEXT = {
    "conditional": "Use a store that refuses the second writer (AWS S3 does, a folder does):"
    " without, two commands may take the same sweep.",
    "delete": "Allow deleting (s3:DeleteObject): sweeps delete old checkpoints and leases.",
}
_ELSE = "Check the store's address, its permissions and its credentials there."


def check_visit(visit: StoreVisit, is_local: bool) -> list[Finding]:
    """Check what came of using the store.

    Args:
        visit: What came of it.
        is_local: Whether the store is a folder.
    """
    findings = [check_step(step) for step in visit.steps]
    broken = any(step.problem for step in visit.steps if step.action in _BASIC)
    if visit.skew is not None:
        findings.append(check_server_clock(visit.skew))
    if visit.saw_note is not None and not broken:
        findings.append(_check_note(visit.saw_note, is_local))
    return findings


def check_step(step: Step) -> Finding:
    """Check one action."""
    name = f"store {step.action}"
    if step.problem:
        return failed(name, step.problem, step.next_step or _NEXT.get(step.action, _ELSE))
    text = f"{step.milliseconds:.0f} ms"
    if step.milliseconds > SLOW_MS and step.action != "connect":
        return warned(
            name,
            f"{text}: slow; each report of a trial writes to the store",
            "Use a store nearby: the same region, the same network.",
        )
    refused = "; the second writer was refused" if step.action == "conditional" else ""
    return passed(name, text + refused)


def _check_note(saw: bool, is_local: bool) -> Finding:
    if saw:
        return passed("same store", "what the driver wrote is there")
    if is_local:
        return failed(
            "same store",
            "what the driver wrote is not in this folder here: it is another disk's",
            "Give a bucket as --store, or a folder that all nodes mount under this path.",
        )
    return failed(
        "same store",
        "what the driver wrote can't be read here",
        "Check AWS_ENDPOINT_URL and the credentials of this node.",
    )
