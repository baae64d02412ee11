"""The connection to Ray, a cluster's or one started here, and the room that it has for work."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import socket
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray._common.utils import get_default_ray_temp_dir
from ray._private.services import canonicalize_bootstrap_address
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import raffect
from raffect import interrupts, local_ray, reaper
from raffect.context import OnNote
from raffect.environment import exported, forwarded_variables
from raffect.errors import LostWorkError, RaffectError, SettingsError, causes_of
from raffect.store.filesystem import CONNECT_TIMEOUT_S
from raffect.text import first_line

_QUIET = {
    # Ray's C++ core writes its warnings straight to the driver's standard error.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # What a trial met is told in our words; Ray would print the traceback, too.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
SEES_ALL_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""For an actor that takes no GPU and is to look at all of its node."""
# A process that took no GPU sees none: otherwise all of a node's share the first one.
_HIDDEN = dict.fromkeys(SEES_ALL_GPUS, "1")
# On one machine nothing is pre-empted, and the controller may poll often: 3 s less for each run.
_LOCAL = {
    **_HIDDEN,
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray would start a process per core in advance, and more beside those that tasks ask for:
    # unused, and a quarter of the CPU time of a short command.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}
_CLUSTER = {
    **_HIDDEN,
    # An autoscaler's nodes take minutes to start; after this time a worker group counts as failed.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
    # The dashboard then lists the runs of data-parallel training, those of trials too. A Ray that
    # the command starts has no dashboard.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}
_CLIENT = "ray://"
_ADDRESS = re.compile(
    rf"(?:{_CLIENT})?(?P<host>\[[\da-fA-F:.]+\]|[^\s:/@\[\]]+):(?P<port>\d{{1,5}})"
)
_LOST = (
    exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError, exceptions.ObjectLostError, exceptions.OutOfMemoryError,
)  # fmt: skip
_ANSWER_S = 10.0
_SOCKET_PATH = 107
"""Bytes of a socket's path at most; TMPDIR of a batch system is often too long."""
_LONGEST_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_OTHER_FOLDERS = ("/tmp/ray", f"/tmp/ray-{os.getuid()}", f"/dev/shm/ray-{os.getuid()}")


def connect(address: str | None = None, imports: Sequence[str] = ()) -> None:
    """Connect to a Ray cluster, or start Ray on this machine; does nothing when connected.

    Args:
        address: A cluster's address; None means RAY_ADDRESS, else this machine.
        imports: Modules that each process of a Ray that is started here imports when it begins.

    Raises:
        SettingsError: It is no cluster's address.
        RaffectError: No cluster answers there, or Ray can't be started here.
    """
    if ray.is_initialized():
        return
    address = _cluster(address)
    own = _CLUSTER if address else _LOCAL
    for name, value in {**_QUIET, **own}.items():
        os.environ.setdefault(name, value)
    # An actor that starts the workers of its trial needs the same settings.
    told = {name: os.environ[name] for name in own if address}
    sent = forwarded_variables() if address else {}
    # By default torch starts a thread per core in each worker: those of one machine would compete.
    variables = {**sent, "OMP_NUM_THREADS": "1", **told}
    start = partial(
        ray.init,
        log_to_driver=False,
        logging_level=logging.ERROR,
        job_config=_job_config(address is None),
    )
    with interrupts.hushed(), interrupts.kept(), reaper.marked():
        if address:
            _join(address, partial(start, runtime_env={"env_vars": variables}))
        else:
            # Ray's processes inherit them. With a runtime environment each would wait for its
            # agent first, and none that started in advance would do.
            with exported({**variables, "RAY_preload_python_modules": ",".join(imports)}):
                _start(start)
    local_ray.end_with_process()
    _calm()


def _cluster(address: str | None) -> str | None:
    """The cluster that is meant; None for this machine alone."""
    given = address or os.environ.get("RAY_ADDRESS")
    return None if given == "local" else given or None


def _job_config(is_local: bool) -> JobConfig:
    """Workers here import the raffect that this process does, a cluster's what its nodes have.

    Ray puts the driver's current folder first on the path of all workers: a clone in it, or below
    it, would come before what is installed, and so would a file that is named as a library is.
    """
    root = Path(raffect.__file__).parent.parent
    # What is installed is on the path anyway, and first it would come before Python's library.
    is_installed = root.name in ("site-packages", "dist-packages")
    paths = [str(root)] if is_local and not is_installed else []
    return JobConfig(_client_job=True, _py_driver_sys_path=paths)


def knock(address: str) -> None:
    """Try a connection to a cluster's HOST:PORT; `auto` is not tried.

    Where nobody listens, Ray's clients wait for half a minute and ray.init() for ten.

    Raises:
        SettingsError: It is no cluster's address.
        OSError: Nobody listens there.
    """
    if address != "auto":
        socket.create_connection(_place(address), timeout=CONNECT_TIMEOUT_S).close()


def _place(address: str) -> tuple[str, int]:
    """Host and port of a cluster's address."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) < 2**16:
        is_page = address.startswith(("http://", "https://"))
        raise SettingsError(
            f"{address.rpartition('@')[2]!r} is not the address of a Ray cluster's head"
            + (": it is one of a dashboard." if is_page else "."),
            "HOST:PORT, e.g. head:6379 or [fd00::1]:6379; auto for the cluster of this machine",
            "Check --address or RAY_ADDRESS; a job goes to a dashboard's address: raffect submit.",
        )
    return found["host"].strip("[]"), int(found["port"])


def _ask(address: str) -> None:
    """Ask a server whether it is a cluster's head: ray.init() would wait on for any other.

    Raises:
        exceptions.AuthenticationError: It wants a token.
        OSError: It is none, or does not answer.
    """
    import grpc
    import ray.core.generated.gcs_service_pb2 as messages
    import ray.core.generated.gcs_service_pb2_grpc as services
    from ray._private.gcs_utils import create_gcs_channel

    # Protocol buffers have no types.
    request: Any = messages
    stub: Any = services

    place = address.removeprefix(_CLIENT)
    with create_gcs_channel(place) as channel:
        try:
            stub.NodeInfoGcsServiceStub(channel).CheckAlive(
                request.CheckAliveRequest(), timeout=_ANSWER_S
            )
        except grpc.RpcError as error:
            code, why = error.code(), first_line(str(error.details()))
            if code is grpc.StatusCode.UNAUTHENTICATED:
                raise exceptions.AuthenticationError(why) from None
            # A Ray Client's server is another one, whose clients give up by themselves.
            if code is not grpc.StatusCode.UNIMPLEMENTED or place == address:
                late = f"no answer within {_ANSWER_S:g} s"
                is_late = code is grpc.StatusCode.DEADLINE_EXCEEDED
                raise ConnectionError(late if is_late else f"no Ray there: {why}") from None


def is_local(address: str | None = None) -> bool:
    """Whether commands run on this machine alone; a cluster may grow, this machine does not."""
    return _cluster(address) is None


def count_cpus() -> float:
    """Cores of the nodes that are up; one if none is yet."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU") or 1.0


def cpus_per_worker(workers: int, cpus: float) -> float:
    """Cores of each worker: all take at most half of the cluster's; two fit on a single core.

    The rest is for the tasks that feed them: on few cores a run is slow, but never deadlocks.
    """
    return max(0.001, round(min(0.5, 0.5 * cpus / workers), 3))


def count_gpus() -> float:
    """GPUs of the nodes that are up."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0.0)


def smallest_object_store() -> float:
    """Bytes of the object store of the node that has the smallest."""
    nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    sizes = [node["Resources"].get("object_store_memory", 0.0) for node in nodes if node["Alive"]]
    return min(filter(None, sizes), default=math.inf)


def asks_for_gpus(device: str, workers: int) -> bool:
    """Whether workers ask for a GPU each, by run.device.

    With `cuda` they do, and wait for nodes that a cluster is yet to start; with `auto` they do if
    enough GPUs are up.
    """
    return device == "cuda" or (device == "auto" and count_gpus() >= workers)


@dataclass(frozen=True)
class Share:
    """Cores and GPUs (1, or 0 on CPUs) that each of the workers of a run takes of the cluster."""

    cpus: float
    gpus: int


def share_of(
    workers: int, device: str, on_note: OnNote | None, cpus: float | None = None
) -> Share:
    """What each worker takes of the connected cluster.

    Args:
        workers: How many run at the same time.
        device: run.device, see `asks_for_gpus`.
        on_note: Told if the nodes that are up have no room for all workers.
        cpus: Cores of each; None: as `cpus_per_worker` has them.
    """
    if cpus is None:
        cpus = cpus_per_worker(workers, count_cpus())
    share = Share(cpus, int(asks_for_gpus(device, workers)))
    if on_note is not None:
        tell_waiting(on_note, workers, share.cpus, share.gpus)
    return share


def beside_caller(kind: type) -> Any:
    """Start an actor without resources on the caller's node, so that no other node's loss ends it.

    The affinity is hard because Ray ignores a soft one for actors without resources, and puts
    them on a random node (https://github.com/ray-project/ray/pull/25344).
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(kind).options(num_cpus=0, scheduling_strategy=here).remote()


def find_lost_work(error: BaseException | None) -> LostWorkError | None:
    """What to tell of an error whose cause is the end of a process that Ray does not replace."""
    for cause in causes_of(error):
        if isinstance(cause, LostWorkError):
            return cause
        # An actor's own constructor that raises is a fault of the program.
        if isinstance(cause, _LOST) and not getattr(cause, "actor_init_failed", False):
            break
    else:
        return None
    told = first_line(cause).rstrip(".")
    memory = " Its node was running low on memory." if "low on memory" in str(cause) else ""
    return LostWorkError(
        f"A process that did the work was lost ({type(cause).__name__}: {told}).{memory}",
        "processes and nodes that stay up, with memory enough",
        "Run the same command again: it continues. If that happens each time, see what"
        " `raffect doctor` says of memory, and the system's log.",
    )


def tell_waiting(on_note: OnNote, workers: int, cpus: float, gpus: float) -> None:
    """Say that work waits for nodes that are yet to start, if they ever do; Ray says nothing.

    Never on this machine alone: there the command was refused if it does not fit.

    Args:
        on_note: Told if the nodes that are up, idle or not, have room for too few workers.
        workers: How many run at the same time, each on one node.
        cpus: Cores of each.
        gpus: GPUs of each.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    room = sum(_holds(node["Resources"], cpus, gpus) for node in nodes if node["Alive"])
    if room < workers:
        asked = f"{workers} x ({cpus:g} CPU" + (f", {gpus:g} GPU)" if gpus else ")")
        on_note(
            f"The cluster's nodes hold {room} of {asked}: waiting for more."
            " Without an autoscaler none comes: end it with Ctrl-C and ask for less."
        )


def _holds(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """How many workers fit on a node."""
    needs = {"CPU": cpus, "GPU": gpus}
    # 1 / 0.1 must be 10: fractions of a core or GPU are not exact in binary.
    fits = (resources.get(kind, 0.0) / each + 1e-9 for kind, each in needs.items() if each)
    return math.floor(min(fits))


def check_gpus(device: str, workers: int, address: str | None = None) -> None:
    """Refuse a run on GPUs that this machine does not have, before anything is written.

    Raises:
        SettingsError: run.device is cuda, and this machine has fewer GPUs.
    """
    if device != "cuda" or not is_local(address):
        return
    connect(address)
    if count_gpus() < workers:
        wanted = "1 GPU" if workers == 1 else f"{workers} GPUs"
        raise SettingsError(
            f"run.device is cuda, which takes {wanted} here; this machine has {count_gpus():g}.",
            "auto or cpu, fewer workers, or a cluster",
            "Give a cluster's --address, or settings with run.device=auto, or fewer --workers.",
        )


def check_room(workers: int, address: str | None) -> None:
    """Refuse more workers than this machine has cores: they would wait for one another for ever.

    Raises:
        SettingsError: This machine, which can't grow as a cluster may, has fewer cores.
    """
    cores = len(os.sched_getaffinity(0))
    if is_local(address) and workers > cores:
        raise SettingsError(
            f"{workers} workers do not fit on this machine, which has {cores} cores.",
            f"at most {cores} workers, or a cluster",
            "Lower --workers, or give a cluster's --address.",
        )


def _join(address: str, start: Callable[..., object]) -> None:
    try:
        knock(address)
        found = canonicalize_bootstrap_address(address) if address == "auto" else address
        _ask(found or address)
        start(address=address)
    except exceptions.AuthenticationError as error:
        raise RaffectError(
            f"The Ray cluster at {address} wants a token: {first_line(error)}",
            "RAY_AUTH_MODE=token, and the cluster's token in the file RAY_AUTH_TOKEN_PATH",
            "Get the token from the cluster's head and set both variables.",
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise RaffectError(
            f"No Ray cluster answers at {address}: {first_line(error)}",
            "the address of a running cluster, or none for this machine alone",
            "Check --address or RAY_ADDRESS, and `ray status` on the cluster.",
        ) from None


def _start(start: Callable[..., object]) -> None:
    """Start Ray on this machine, in a folder that holds its sockets."""
    _protect()
    default: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    folder = next(filter(_holds_sockets, (default, *_OTHER_FOLDERS)), default)
    options: dict[str, object] = {} if folder == default else {"_temp_dir": folder}
    try:
        with local_ray.lean_start():
            start(address="local", include_dashboard=False, **options)
    except Exception as error:
        # Ray raises plain Exception, too, e.g. where it does not start in time on a busy machine.
        raise RaffectError(
            f"Ray can't be started on this machine, in {folder}: {first_line(error)}",
            "a folder with room, in which this user may write; memory and cores to spare",
            "Run the command again when less runs here; or name another folder in RAY_TMPDIR, or"
            " give a cluster's --address.",
        ) from error


def _holds_sockets(folder: str) -> bool:
    """Whether Ray may write to a folder, and its sockets' paths there are short enough."""
    try:
        path = Path(folder, _LONGEST_SOCKET).absolute()
        fits = len(str(path).encode()) <= _SOCKET_PATH
    except (OSError, ValueError):
        return False
    there = next(parent for parent in Path(folder).absolute().parents if parent.exists())
    return fits and os.access(folder if Path(folder).exists() else there, os.W_OK | os.X_OK)


def _protect() -> None:
    """Give this process's own Ray a token: it listens on all interfaces.

    ray.init() turns token authentication on where RAY_AUTH_MODE is not set (setting it here would
    be too late: the mode is read when ray is imported). Without a token in the environment it
    would write one to the home folder, which changes how later clusters start.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _calm() -> None:
    """Turn off Ray's own progress bars and logs, which would bury raffect's."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Its wrapper would lose the user's error below it, see errors.find_user_error.
    context.raise_original_map_exception = True
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It prints whatever it raises.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray")
