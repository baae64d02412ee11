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

from raffect.environment import no_credentials_sent
from raffect.local_ray import replaced

IMPORTS = ("torch", "ray.tune", "optuna")
"""What they import when they begin. Not raffect: where it is, they learn with their first work."""
_REFUSED = (grpc.RpcError, ImportError, AttributeError, TypeError, KeyError)
_ANSWER_S = 10.0
_KEPT_S = 600
_KNOWN_S = 5.0


class Prestarted:
    """Processes that this node starts at once; Ray has that call for itself, none in Python.

    Without them, should Ray refuse or have other names for it, trials start theirs themselves.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._place = ""
        self._before: set[int] = set()
        with suppress(*_REFUSED):
            self._ask()

    def _ask(self) -> None:
        import ray.core.generated.node_manager_pb2 as messages
        from ray.core.generated.common_pb2 import Language  # type: ignore[attr-defined]

        # Protocol buffers have no types.
        request: Any = messages
        context = ray.get_runtime_context()
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        here = next(node for node in nodes if node["NodeID"] == context.get_node_id())
        wanted = request.PrestartWorkersRequest(
            language=Language.PYTHON,
            job_id=bytes.fromhex(context.get_job_id()),
            num_workers=self._count,
            # Others that wait for more than a second are ended.
            keep_alive_duration_secs=_KEPT_S,
        )
        self._place = f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"
        with self._stub() as stub:
            self._before = self._known(stub)
            stub.PrestartWorkers(wanted, timeout=_ANSWER_S)

    @contextmanager
    def _stub(self) -> Iterator[Any]:
        import ray.core.generated.node_manager_pb2_grpc as services
        from ray._private.gcs_utils import create_gcs_channel

        of: Any = services
        with create_gcs_channel(self._place) as channel:
            yield of.NodeManagerServiceStub(channel)

    def _known(self, stub: Any) -> set[int]:
        import ray.core.generated.node_manager_pb2 as messages

        request: Any = messages
        return set(stub.GetWorkerPIDs(request.GetWorkerPIDsRequest(), timeout=_ANSWER_S).pids)

    def wait(self) -> None:
        """Wait until Ray knows them; for an actor that asks before, it would start another."""
        until = time.monotonic() + _KNOWN_S
        if not self._place:
            return
        with suppress(*_REFUSED), self._stub() as stub:
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

    names: set[str] = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", set())
    fixed: dict[str, str] = getattr(class_cache, "DEFAULT_ENV_VARS", {})
    kept = {} if is_local else dict(fixed)
    with (
        replaced(usage, tag_callbacks=lambda callbacks: False),
        replaced(class_cache, DEFAULT_ENV_VARS=kept),
        no_credentials_sent(names, everything=is_local),
    ):
        yield
