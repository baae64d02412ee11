"""The processes of trials on this machine: begun before the trials are, and without ballast.

A process takes seconds to import PyTorch and Tune. Ray gives an actor a process that waits, if
that has run nothing yet and neither has a runtime environment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import ray
from ray._private.gcs_utils import create_gcs_channel
from ray.core.generated.common_pb2 import Language  # type: ignore[attr-defined]

from raffect.environment import no_credentials_sent

IMPORTS = ("torch", "ray.tune", "optuna")
"""What they import when they begin. Not raffect: where it is, they learn with their first work."""
_ANSWER_S = 10.0
_KEPT_S = 600
_KNOWN_S = 5.0


class Prestarted:
    """Processes that this node starts at once; Ray has that call for itself, none in Python.

    Without them, should Ray refuse, trials start their processes themselves.
    """

    def __init__(self, count: int) -> None:
        import ray.core.generated.node_manager_pb2 as messages
        import ray.core.generated.node_manager_pb2_grpc as services

        # Protocol buffers have no types.
        self._messages: Any = messages
        self._services: Any = services
        self._count = count
        context = ray.get_runtime_context()
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        here = next(node for node in nodes if node["NodeID"] == context.get_node_id())
        self._place = f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"
        wanted = self._messages.PrestartWorkersRequest(
            language=Language.PYTHON,
            job_id=bytes.fromhex(context.get_job_id()),
            num_workers=count,
            # Others that wait for more than a second are ended.
            keep_alive_duration_secs=_KEPT_S,
        )
        self._before: set[int] = set()
        with self._stub() as stub, suppress(grpc.RpcError):
            self._before = self._known(stub)
            stub.PrestartWorkers(wanted, timeout=_ANSWER_S)

    @contextmanager
    def _stub(self) -> Iterator[Any]:
        with create_gcs_channel(self._place) as channel:
            yield self._services.NodeManagerServiceStub(channel)

    def _known(self, stub: Any) -> set[int]:
        request = self._messages.GetWorkerPIDsRequest()
        return set(stub.GetWorkerPIDs(request, timeout=_ANSWER_S).pids)

    def wait(self) -> None:
        """Wait until Ray knows them; for an actor that asks before, it would start another."""
        until = time.monotonic() + _KNOWN_S
        with self._stub() as stub, suppress(grpc.RpcError):
            while time.monotonic() < until:
                if len(self._known(stub) - self._before) >= self._count:
                    return
                time.sleep(0.02)


@contextmanager
def lean(is_local: bool) -> Iterator[None]:
    """Keep Tune from what it has no switch for.

    It gives each trial's actor a runtime environment, with the credentials of AWS in it: nothing
    in it is needed on this machine, where processes inherit the variables. Its telemetry imports
    MLflow and W&B, for 2 s of a sweep's beginning, to see whether a callback is theirs.
    """
    from ray.air._internal import usage
    from ray.tune.execution import class_cache

    names, fixed = class_cache.ENV_VARS_TO_PROPAGATE, class_cache.DEFAULT_ENV_VARS
    before, tag = dict(fixed), usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    if is_local:
        fixed.clear()
    try:
        with no_credentials_sent(names, everything=is_local):
            yield
    finally:
        usage.tag_callbacks = tag
        fixed.update(before)
