"""The examination: this machine, or the driver and all nodes of a cluster."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from raffect.doctor.access_probe import knock_at, refuse_job_server
from raffect.doctor.checks import (
    check_any_gpu,
    check_clock,
    check_cores,
    check_disk,
    check_gpus,
    check_object_store,
    check_open_files,
    check_reach,
    check_shared_memory,
    check_stranger,
    check_threads,
    check_token,
    check_variables,
    check_visit,
    estimate_object_store,
)
from raffect.doctor.cluster import Cluster, Node, joined
from raffect.doctor.facts import Code, Features, Machine, StoreVisit
from raffect.doctor.findings import Finding, State, at, failed, one_line, passed, redact, warned
from raffect.doctor.gpu_probe import look_at_gpus
from raffect.doctor.machine_probe import look_at_machine
from raffect.doctor.node_actor import describe_code
from raffect.doctor.store_probe import left_note, new_folder, read_features, visit_store
from raffect.doctor.timeouts import Answer, Patience, within
from raffect.doctor.versions import Wanted, check_code, check_likeness, find_wanted
from raffect.errors import RaffectError
from raffect.store import Store
from raffect.text import listed

HERE, DRIVER = "this machine", "driver"
Tell = Callable[[str], None]


def examine(
    address: str | None = None,
    store: str | None = None,
    features: str | None = None,
    patience: Patience | None = None,
    tell: Tell = lambda text: None,
) -> list[Finding]:
    """Check this machine, or the driver, the cluster and each of its nodes.

    Args:
        address: A cluster's; None means RAY_ADDRESS, else this machine alone.
        store: URI; None means RAFFECT_STORE, else the default.
        features: Name of the features of a sweep to come; None: the largest in the store.
        patience: How long to wait for whom.
        tell: Told what is examined at the moment.

    Raises:
        SettingsError: The address is a job server's, or the store's URI is none.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        refuse_job_server(address)
    case = Case(
        store=Store.open(store),
        folder=new_folder(),
        patience=patience or Patience(),
        wanted=find_wanted(),
        code=Code(**describe_code()),
    )
    place = DRIVER if address else HERE
    tell(place)
    case, found = _examine_driver(case, features, bool(address))
    findings = at(place, found)
    if address:
        # A machine that is examined alone need not import Ray.

        with ExitStack() as stack:
            note = None
            if case.usable:
                note = stack.enter_context(left_note(case.store.uri, case.folder))
            findings += visit_cluster(case, address, note, tell)
    return [
        replace(one, found=redact(one.found), next_step=redact(one.next_step)) for one in findings
    ]


def _examine_driver(case: Case, features: str | None, joins: bool) -> tuple[Case, list[Finding]]:
    """The driver's findings, and the case with what was learned."""
    # First: opening a store sets defaults that the machine's variables then show.
    visit, of_store = _visit(case)
    machine, of_machine = _look(case, joins)
    findings = check_code(case.code, case.wanted) + of_machine
    size: Features | None = None
    if visit is not None:
        size, of_features = _features(case, features)
        findings += of_features
    if machine is not None and not joins:
        findings += check_memory(machine, estimate_object_store(machine), size, running=False)
    usable = visit is not None and not any(step.problem for step in visit.steps)
    case = replace(case, features=size, machine=machine, usable=usable)
    return case, findings + of_store


def _visit(case: Case) -> tuple[StoreVisit | None, list[Finding]]:
    answer = within(case.patience.store, visit_store, case.store.uri, case.folder, DRIVER)
    if answer.value is None:
        return None, [unanswered("store", answer)]
    return answer.value, check_visit(answer.value, case.store.is_local)


def _look(case: Case, joins: bool) -> tuple[Machine | None, list[Finding]]:
    paths = case.disks(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    answer = within(case.patience.look, look_at_machine, paths)
    machine = answer.value
    if machine is None:
        return None, [unanswered("machine", answer)]
    variables = None if case.store.is_local else check_variables(machine.variables)
    findings = [
        check_token(machine.token, joins),
        check_open_files(machine.open_files),
        check_threads(machine),
        *([variables] if variables else []),
    ]
    if joins:
        # The nodes' cores, disks and GPUs count.
        return machine, findings
    gpus = within(case.patience.gpus + 5, look_at_gpus, case.patience.gpus)
    return machine, [
        *findings,
        check_cores(machine, None),
        *check_disks(machine),
        *(check_gpus(gpus.value, None) if gpus.value else [unanswered("GPUs", gpus)]),
    ]


def _features(case: Case, name: str | None) -> tuple[Features | None, list[Finding]]:
    try:
        return read_features(case.store, name), []
    except RaffectError as error:
        return None, [warned("features", error.got, error.next_step)]
    except Exception as error:
        return None, [warned("features", one_line(error), "Make them again: raffect extract.")]


@dataclass(frozen=True)
class Case:
    """What is examined, and what is known before any node is asked.

    Attributes:
        store: The store.
        folder: Of this examination in the store.
        patience: How long to wait for whom.
        wanted: The versions that raffect wants.
        code: The driver's.
        features: Those that a sweep would use; None where there are none.
        machine: The driver's; None where it did not answer.
        usable: Whether the driver can use the store.
    """

    store: Store
    folder: str
    patience: Patience
    wanted: Wanted
    code: Code
    features: Features | None = None
    machine: Machine | None = None
    usable: bool = False

    def disks(self, temporary: str) -> tuple[str, ...]:
        """The paths whose disks matter: Ray's own, and that of a folder store."""
        return (temporary, self.store.path("")) if self.store.is_local else (temporary,)


def check_disks(machine: Machine) -> list[Finding]:
    """Check the disks of `Case.disks`."""
    names = ("temp disk", "store disk")
    return [check_disk(disk, name) for disk, name in zip(machine.disks, names, strict=False)]


def check_memory(
    machine: Machine, capacity: int, features: Features | None, running: bool
) -> list[Finding]:
    """Check an object store and what holds it."""
    return [
        check_object_store(capacity, features, machine.disks[0].free, running),
        check_shared_memory(machine.shared, capacity),
    ]


def unanswered(check: str, answer: Answer[Any]) -> Finding:
    """The finding of a question that brought no value."""
    return failed(check, answer.problem, "See whether that machine or one of its disks hangs.")


CLUSTER = "cluster"
_RAY_CLIENT = "ray://"


@dataclass(frozen=True)
class Part:
    """One thing that is asked of every node.

    Attributes:
        name: Of the finding where there is no answer.
        function: What runs on the node.
        arguments: For a node.
        seconds: How long to wait.
        check: Findings from a node and its answer.
    """

    name: str
    function: Callable[..., Any]
    arguments: Callable[[Node], tuple[Any, ...]]
    seconds: float
    check: Callable[[Node, Any], list[Finding]]


def visit_cluster(
    case: Case, address: str, note: str | None, tell: Callable[[str], None]
) -> list[Finding]:
    """Check a cluster and each of its nodes.

    Args:
        case: What is examined.
        address: The cluster's.
        note: What the driver has left in the store; None: nothing.
        tell: Told what is examined at the moment.
    """
    tell(CLUSTER)
    findings = at(CLUSTER, _knock(case, address))
    if any(finding.state is State.FAIL for finding in findings):
        return findings
    try:
        with joined(address) as cluster:
            findings += at(CLUSTER, _check_whole(cluster))
            count = len(cluster.nodes)
            tell("1 node" if count == 1 else f"{count} nodes")
            return findings + _check_nodes(case, cluster, note)
    except RaffectError as error:
        # Ray's reason may have several lines, of which the message has the first.
        why = one_line(error.__context__ or error.got)
        return findings + at(CLUSTER, [failed("join", why, error.next_step)])


def _knock(case: Case, address: str) -> list[Finding]:
    if address.startswith(_RAY_CLIENT):
        # A proxy on the head node joins the cluster for us; it alone knows the way.
        return []
    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(knock_at, address, case.patience.knock)
        stranger = pool.submit(knock_at, address, case.patience.knock, True)
        reach = check_reach(own.result(), case.code, address)
    if own.result().answer != "open":
        return [reach]
    return [reach, check_stranger(stranger.result())]


def _check_whole(cluster: Cluster) -> list[Finding]:
    cpus = sum(node.cpus for node in cluster.nodes)
    findings = [
        passed("nodes", f"{len(cluster.nodes)} live, {cpus:g} CPUs"),
        check_any_gpu(sum(node.gpus for node in cluster.nodes)),
    ]
    if cluster.lost:
        reasons = [f"{name}: {reason}" for name, reason in cluster.lost.items()]
        findings.append(
            warned(
                "lost nodes",
                f"{len(reasons)} died: {listed(reasons, 2)}",
                "Trials there went on elsewhere; see its system log for the reason.",
            )
        )
    return findings


def _check_nodes(case: Case, cluster: Cluster, note: str | None) -> list[Finding]:
    codes = cluster.call(case.patience.start)
    findings = {node.identity: _check_codes(case, codes[node.identity]) for node in cluster.nodes}
    for node in cluster.nodes:
        if codes[node.identity].value is not None:
            findings[node.identity].append(_check_clock(case, cluster, node))
    # Another raffect's facts may not be these.
    asked = [node for node in cluster.nodes if _runs_this(codes[node.identity], case.code)]
    for part in _parts(case, note):
        answers = cluster.ask(
            {node.identity: part.arguments(node) for node in asked}, part.function, part.seconds
        )
        for node in asked:
            answer = answers[node.identity]
            good = answer.value is not None
            found = part.check(node, answer.value) if good else [unanswered(part.name, answer)]
            findings[node.identity] += found
        # Who hangs with one part does not come to the next.
        asked = [node for node in asked if answers[node.identity].value is not None]
    return [one for node in cluster.nodes for one in at(node.name, findings[node.identity])]


def _parts(case: Case, note: str | None) -> list[Part]:
    patience = case.patience
    return [
        Part(
            "machine",
            look_at_machine,
            lambda node: (case.disks(node.session),),
            patience.look,
            lambda node, machine: _check_machine(case, node, machine),
        ),
        Part(
            "GPUs",
            look_at_gpus,
            lambda node: (patience.gpus,),
            patience.gpus + 5,
            lambda node, gpus: check_gpus(gpus, node.gpus),
        ),
        Part(
            "store",
            visit_store,
            lambda node: (case.store.uri, case.folder, node.identity, note),
            patience.store,
            lambda node, visit: check_visit(visit, case.store.is_local),
        ),
    ]


def _runs_this(answer: Answer[dict[str, Any]], driver: Code) -> bool:
    return answer.value is not None and answer.value["digest"] == driver.digest


def _check_codes(case: Case, answer: Answer[dict[str, Any]]) -> list[Finding]:
    if answer.value is None:
        return [
            failed(
                "answers",
                f"no process could be started and asked there: {answer.problem}",
                "See `ray status` and the logs in Ray's session folder on that node.",
            )
        ]
    code = Code(**answer.value)
    return [*check_code(code, case.wanted), *check_likeness(code, case.code)]


def _check_clock(case: Case, cluster: Cluster, node: Node) -> Finding:
    answer = cluster.offset(node.identity)
    if answer.value is None:
        return unanswered("clock", answer)
    return check_clock(answer.value, signs=not case.store.is_local)


def _check_machine(case: Case, node: Node, machine: Machine) -> list[Finding]:
    findings = [
        check_cores(machine, node.cpus),
        check_open_files(machine.open_files),
        *check_disks(machine),
        *check_memory(machine, node.object_store, case.features, running=True),
    ]
    if machine.token.mode == "token":
        findings.append(check_token(machine.token, joins=True))
    if not case.store.is_local and case.machine is not None:
        compared = check_variables(machine.variables, case.machine.variables)
        findings += [compared] if compared else []
    return findings
