"""The examination: this machine, or the driver and all nodes of a cluster."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from raffect.errors import RaffectError
from raffect.jobs.doctor.answers import Patience, within
from raffect.jobs.doctor.case import Case, check_disks, check_memory, unanswered
from raffect.jobs.doctor.check_access import check_token
from raffect.jobs.doctor.check_gpus import check_gpus
from raffect.jobs.doctor.check_machine import (
    check_cores,
    check_open_files,
    check_threads,
    check_variables,
)
from raffect.jobs.doctor.check_memory import estimate_object_store
from raffect.jobs.doctor.check_store import check_visit
from raffect.jobs.doctor.check_versions import check_code
from raffect.jobs.doctor.door import refuse_job_server
from raffect.jobs.doctor.facts import Code, Features, Machine, StoreVisit
from raffect.jobs.doctor.findings import Finding, at, warned
from raffect.jobs.doctor.gpus import look_at_gpus
from raffect.jobs.doctor.machine import look_at_machine
from raffect.jobs.doctor.redact import one_line, redact
from raffect.jobs.doctor.storage import left_note, new_folder, read_features, visit_store
from raffect.jobs.doctor.versions import find_wanted
from raffect.jobs.doctor.witness import describe_code
from raffect.store import Store

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
        from raffect.jobs.doctor.rounds import visit_cluster

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
