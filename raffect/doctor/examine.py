"""The examination of this machine, or of the driver, its cluster and each of the nodes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from raffect.context import OnNote, ignore
from raffect.doctor import checks
from raffect.doctor.facts import Features, Gpus, Machine, StoreVisit
from raffect.doctor.findings import Finding, State, at, failed, one_line, passed, redact, warned
from raffect.doctor.machine_probe import look_at_gpus, look_at_machine
from raffect.doctor.node_actor import Code, describe_code
from raffect.doctor.store_probe import left_note, new_folder, read_features, visit_store
from raffect.doctor.timeouts import Reply, Timeouts, within
from raffect.doctor.versions import Expected, check_code, check_likeness, find_expected
from raffect.errors import RaffectError, SettingsError
from raffect.store import Store
from raffect.text import listed

if TYPE_CHECKING:
    from raffect.doctor.cluster import Cluster, Node

T = TypeVar("T")
DRIVER, CLUSTER = "driver", "cluster"
_SLACK_S = 5.0
"""What a call may take beyond the time limits of what it calls."""


@dataclass(frozen=True)
class Examination:
    """What all places are examined with; `code` and `driver` are the driver's.

    `folder` is the examination's own in the store, `features` those that a sweep would use, and
    `driver` is None where its machine did not answer.
    """

    store: Store
    folder: str
    timeouts: Timeouts
    expected: Expected
    code: Code
    features: Features | None = None
    driver: Machine | None = None


@dataclass(frozen=True)
class Seen:
    """What was seen from one place; `gpus` is None where they were not looked at."""

    machine: Reply[Machine]
    gpus: Reply[Gpus] | None
    visit: Reply[StoreVisit]


def examine(
    address: str | None = None,
    store: str | None = None,
    features: str | None = None,
    timeouts: Timeouts | None = None,
    tell: OnNote = ignore,
) -> list[Finding]:
    """Check this machine, or the driver, the cluster and each of its nodes.

    Without an address: RAY_ADDRESS, else this machine alone; without the features of a sweep to
    come: the largest in the store. `tell` is called with the place that is being examined.

    Raises:
        SettingsError: The address is a job server's, or the store's URI is invalid.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address.startswith(("http://", "https://")):
        raise SettingsError(
            f"{address} is a job server, which runs commands on its cluster.",
            "the address of a Ray cluster: HOST:6379, or auto on one of its nodes",
            f"raffect submit --address {address} -- doctor",
        )
    exam = Examination(
        Store.open(store), new_folder(), timeouts or Timeouts(), find_expected(), describe_code()
    )
    place = DRIVER if address else "this machine"
    tell(place)
    temporary = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    # A cluster's nodes are asked for their own GPUs.
    seen = look(exam.store, exam.folder, DRIVER, None, temporary, exam.timeouts, not address)
    visit = seen.visit.value
    size, of_features = (None, []) if visit is None else _read_features(exam.store, features)
    exam = replace(exam, driver=seen.machine.value, features=size)
    found = check_code(exam.code, exam.expected) + _check_driver(exam, seen) + of_features
    if not address and exam.driver is not None:
        capacity = checks.estimate_object_store(exam.driver)
        found += _check_memory(exam.driver, capacity, exam.features, running=False)
    findings = at(place, found + _check_store(exam, seen))
    if address:
        with ExitStack() as stack:
            note = None
            if visit is not None and not any(action.problem for action in visit.actions):
                note = stack.enter_context(left_note(exam.store.uri, exam.folder))
            findings += _examine_cluster(exam, address, note, tell)
    return [
        replace(one, found=redact(one.found), next_step=redact(one.next_step)) for one in findings
    ]


def look(
    store: Store,
    folder: str,
    who: str,
    note: str | None,
    temporary: str,
    timeouts: Timeouts,
    with_gpus: bool = True,
) -> Seen:
    """Look around in this process; called on the driver and, by Ray, on each node.

    See `visit_store` for `folder`, `who` and `note`. `temporary` is where Ray spills; asking torch
    for GPUs takes a while.
    """
    # First: opening a store sets defaults that the machine's variables then show.
    visit = within(timeouts.store, visit_store, store.uri, folder, who, note)
    disks = (temporary, store.path("")) if store.is_local else (temporary,)
    machine = within(timeouts.machine, look_at_machine, disks)
    gpus = within(timeouts.gpus + _SLACK_S, look_at_gpus, timeouts.gpus) if with_gpus else None
    return Seen(machine, gpus, visit)


def _judge(check: str, reply: Reply[T], judge: Callable[[T], list[Finding]]) -> list[Finding]:
    """What follows from a reply, or from its absence."""
    if reply.value is None:
        step = "See whether that machine or one of its disks hangs."
        return [failed(check, reply.problem, step)]
    return judge(reply.value)


def _read_features(store: Store, name: str | None) -> tuple[Features | None, list[Finding]]:
    try:
        return read_features(store, name), []
    except RaffectError as error:
        return None, [warned("features", error.got, error.next_step)]
    except (OSError, ValueError) as error:
        return None, [warned("features", one_line(error), "Make them again: raffect extract.")]


def _check_driver(exam: Examination, seen: Seen) -> list[Finding]:
    """Check the machine; of a driver that joins a cluster only what the nodes don't answer for."""
    gpus = seen.gpus

    def judge(machine: Machine) -> list[Finding]:
        findings = [
            checks.check_token(machine.token, joins=gpus is None),
            checks.check_open_files(machine.open_files),
            checks.check_threads(machine),
            *([] if exam.store.is_local else checks.check_variables(machine.variables)),
        ]
        if gpus is None:
            return findings
        findings += [checks.check_cores(machine, None), *_check_disks(machine)]
        return findings + _judge("GPUs", gpus, lambda seen: checks.check_gpus(seen, None))

    return _judge("machine", seen.machine, judge)


def _check_disks(machine: Machine) -> list[Finding]:
    names = ("temp disk", "store disk")
    return list(map(checks.check_disk, machine.disks, names))


def _check_memory(
    machine: Machine, capacity: int, features: Features | None, running: bool
) -> list[Finding]:
    return [
        checks.check_object_store(capacity, features, machine.disks[0].free, running),
        checks.check_shared_memory(machine.shared, capacity),
        checks.check_memory(machine, features, running),
    ]


def _check_store(exam: Examination, seen: Seen) -> list[Finding]:
    return _judge(
        "store", seen.visit, lambda visit: checks.check_visit(visit, exam.store.is_local)
    )


def _examine_cluster(
    exam: Examination, address: str, note: str | None, tell: OnNote
) -> list[Finding]:
    # Only here: a machine is examined alone also where Ray can't be imported.
    from raffect.doctor.cluster import joined

    tell(CLUSTER)
    findings = at(CLUSTER, _check_access(exam, address))
    if any(finding.state is State.FAIL for finding in findings):
        return findings
    try:
        with joined(address) as cluster:
            findings += at(CLUSTER, _check_whole(cluster))
            count = len(cluster.nodes)
            tell("1 node" if count == 1 else f"{count} nodes")
            return findings + _examine_nodes(exam, cluster, note)
    except RaffectError as error:
        # The message has the first line of Ray's reason, which may have several.
        why = one_line(error.__context__ or error.got)
        return findings + at(CLUSTER, [failed("join", why, error.next_step)])


def _check_access(exam: Examination, address: str) -> list[Finding]:
    from raffect.doctor.cluster import ask_for_access

    if address.startswith("ray://"):
        # Ray Client's proxy on the head node joins the cluster for the driver.
        return []
    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(ask_for_access, address, exam.timeouts.access)
        stranger = pool.submit(ask_for_access, address, exam.timeouts.access, as_stranger=True)
    findings = [checks.check_access(own.result(), exam.code, address)]
    # If the cluster does not let us in, its refusing others shows nothing.
    if own.result().answer == "open":
        findings.append(checks.check_stranger(stranger.result()))
    return findings


def _check_whole(cluster: Cluster) -> list[Finding]:
    cpus = sum(node.cpus for node in cluster.nodes)
    findings = [
        passed("nodes", f"{len(cluster.nodes)} live, {cpus:g} CPUs"),
        checks.check_any_gpu(sum(node.gpus for node in cluster.nodes)),
    ]
    if cluster.lost:
        reasons = [f"{name}: {reason}" for name, reason in cluster.lost.items()]
        text = f"{len(reasons)} died: {listed(reasons, 2)}"
        step = "Trials there went on elsewhere; see its system log for the reason."
        findings.append(warned("lost nodes", text, step))
    return findings


def _examine_nodes(exam: Examination, cluster: Cluster, note: str | None) -> list[Finding]:
    limits = exam.timeouts
    codes = cluster.start(limits.start)
    # Before the long calls, which would keep the actors from answering at once.
    clocks = {
        identity: cluster.clock_offset(identity)
        for identity, reply in codes.items()
        if reply.value is not None
    }
    arguments = {
        node.identity: (exam.store, exam.folder, node.identity, note, node.session, limits)
        for node in cluster.nodes
        # Another raffect may see other facts than these.
        if (code := codes[node.identity].value) and code["digest"] == exam.code["digest"]
    }
    seconds = limits.store + limits.machine + limits.gpus + 2 * _SLACK_S
    seen = cluster.call(look, arguments, seconds)
    signs = not exam.store.is_local
    findings: list[Finding] = []
    for node in cluster.nodes:
        found = _check_code(exam, codes[node.identity])
        if reply := clocks.get(node.identity):
            found += _judge("clock", reply, lambda offset: [checks.check_clock(offset, signs)])
        if answer := seen.get(node.identity):
            found += _judge("machine", answer, partial(_check_node, exam, node))
        findings += at(node.name, found)
    return findings


def _check_code(exam: Examination, reply: Reply[Code]) -> list[Finding]:
    if reply.value is None:
        text = f"no process could be started and asked there: {reply.problem}"
        step = "See `ray status` and the logs in Ray's session folder on that node."
        return [failed("answers", text, step)]
    return [*check_code(reply.value, exam.expected), *check_likeness(reply.value, exam.code)]


def _check_node(exam: Examination, node: Node, seen: Seen) -> list[Finding]:
    def judge(machine: Machine) -> list[Finding]:
        findings = [
            checks.check_cores(machine, node.cpus),
            checks.check_open_files(machine.open_files),
            *_check_disks(machine),
            *_check_memory(machine, node.object_store, exam.features, running=True),
        ]
        if machine.token.mode == "token":
            findings.append(checks.check_token(machine.token, joins=True))
        if not exam.store.is_local and exam.driver is not None:
            findings += checks.check_variables(machine.variables, exam.driver.variables)
        return findings

    assert seen.gpus is not None
    of_gpus = _judge("GPUs", seen.gpus, lambda gpus: checks.check_gpus(gpus, node.gpus))
    return _judge("machine", seen.machine, judge) + of_gpus + _check_store(exam, seen)
