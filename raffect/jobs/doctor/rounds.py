"""The rounds: the cluster as a whole, then every node, each part with a time limit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from raffect.errors import RaffectError
from raffect.jobs.doctor.answers import Answer
from raffect.jobs.doctor.case import Case, check_disks, check_memory, unanswered
from raffect.jobs.doctor.check_access import check_reach, check_stranger, check_token
from raffect.jobs.doctor.check_gpus import check_any_gpu, check_gpus
from raffect.jobs.doctor.check_machine import (
    check_clock,
    check_cores,
    check_open_files,
    check_variables,
)
from raffect.jobs.doctor.check_store import check_visit
from raffect.jobs.doctor.check_versions import check_code, check_likeness
from raffect.jobs.doctor.cluster import Cluster, Node, joined
from raffect.jobs.doctor.door import knock_at
from raffect.jobs.doctor.facts import Code, Machine
from raffect.jobs.doctor.findings import Finding, State, at, failed, listed, passed, warned
from raffect.jobs.doctor.gpus import look_at_gpus
from raffect.jobs.doctor.machine import look_at_machine
from raffect.jobs.doctor.redact import one_line
from raffect.jobs.doctor.storage import visit_store

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
