"""Checks: what is concluded from the facts about a machine, its GPUs, the store or a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping

from raffect.context import TRIAL_BYTES
from raffect.doctor.facts import (
    Access,
    Disk,
    Features,
    Gpus,
    Machine,
    Offset,
    StoreAction,
    StoreVisit,
    Token,
)
from raffect.doctor.findings import Finding, failed, passed, warned
from raffect.doctor.node_actor import Code
from raffect.store.translate import RIGHTS
from raffect.text import listed, size_text


def check_cores(machine: Machine, counted: float | None) -> Finding:
    """Compare usable cores with those that Ray counts; None: it is yet to start and count."""
    usable = f"{machine.usable:g} usable"
    if counted is None:
        share = f" of {machine.cores}" if machine.usable < machine.cores else ""
        return passed("cores", usable + share)
    if counted > math.ceil(machine.usable):
        return warned(
            "cores",
            f"Ray counts {counted:g}, this container or process may use {machine.usable:g}",
            f"Trials share cores: ray start --num-cpus={math.floor(max(1, machine.usable))}.",
        )
    return passed("cores", f"Ray counts {counted:g}, {usable}")


def check_disk(disk: Disk, what: str) -> Finding:
    """Check the free space of a disk; the check's name says what the disk is for."""
    text = f"{size_text(disk.free)} free of {size_text(disk.total)} at {disk.path}"
    clear = "Delete what is not needed there, or use another disk"
    where = "(ray start --temp-dir, RAY_TMPDIR)" if what == "temp disk" else "(--store)"
    if disk.free < 1 << 30:
        return failed(what, text, f"{clear} {where}.")
    # RAY_local_fs_capacity_threshold.
    if what == "temp disk" and disk.free < (1 - 0.95) * disk.total:
        return warned(what, f"{text}; Ray spills nothing to a disk so full", f"{clear} {where}.")
    if disk.free < 10 << 30:
        return warned(what, text, f"{clear} {where}.")
    return passed(what, text)


def check_open_files(count: int) -> Finding:
    """Check how many files a process may open; each worker takes some hundred."""
    # Ray warns below that too.
    if count < 4096:
        return warned("open files", f"at most {count}", "ulimit -n 65536 before Ray starts.")
    return passed("open files", f"up to {count}")


def check_threads(machine: Machine) -> Finding:
    """Check the driver's OMP_NUM_THREADS; raffect sets that of the workers."""
    count = machine.threads.split(",")[0]
    if not count.isdigit():
        return passed("threads", "OMP_NUM_THREADS is not set")
    if int(count) > math.ceil(machine.usable):
        text = f"OMP_NUM_THREADS={count} on {machine.usable:g} cores: they slow one another down"
        return warned("threads", text, "Unset it, or lower it to the number of cores.")
    return passed("threads", f"OMP_NUM_THREADS={count}")


def check_clock(offset: Offset, signs: bool) -> Finding:
    """Compare a node's clock with the driver's; `signs`: S3 requests are signed with its time."""
    off = max(0.0, abs(offset.seconds) - offset.error)
    text = f"{offset.seconds:+.2f} s to the driver's, to {offset.error:.2f} s"
    return _judge_clock("clock", off, text, signs, "logs and times of trials don't fit together")


def check_server_clock(skew: float) -> Finding:
    """Compare a place's clock with the S3 server's, which tells full seconds."""
    text = f"{-skew:+.0f} s to the S3 server's"
    return _judge_clock("S3 clock", max(0.0, abs(skew) - 1), text, True, "it may grow")


def check_variables(
    here: Mapping[str, str], driver: Mapping[str, str] | None = None
) -> list[Finding]:
    """Check the variables that decide how S3 is reached, if any; a node's against the driver's."""
    if driver is not None:
        return [_compare(here, driver)]
    odd = [f"{k}={v}" for k, v in here.items() if "CHECKSUM" in k and v != "when_required"]
    if odd and any(name.startswith("AWS_ENDPOINT_URL") for name in here):
        text = f"{', '.join(odd)}: many servers that are not AWS answer 411 to that"
        return [warned("environment", text, "Unset it: raffect then says when_required.")]
    return [passed("environment", f"{len(here)} variables for S3")] if here else []


def _compare(here: Mapping[str, str], driver: Mapping[str, str]) -> Finding:
    names = sorted({*here, *driver})
    other = [name for name in names if here.get(name) != driver.get(name)]
    if not other:
        return passed("environment", "S3 variables as on the driver")
    text = "; ".join(
        f"{name} is {here.get(name, 'not set')}, on the driver {driver.get(name, 'not set')}"
        for name in other
    )
    step = "Set the same on the driver (it is passed on), or unset it on the node."
    judged = failed if any(name.startswith("AWS_ENDPOINT_URL") for name in other) else warned
    return judged("environment", text, step)


def _judge_clock(check: str, off: float, text: str, signs: bool, why: str) -> Finding:
    step = "Set the clock there: NTP (chrony, systemd-timesyncd)."
    # S3 refuses signatures that are 15 minutes off.
    if off > 900 and signs:
        return failed(check, f"{text}: S3 refuses requests that are signed so", step)
    return warned(check, f"{text}: {why}", step) if off > 5 else passed(check, text)


_AFFWILD2 = 2_600_000 * 512 * 2
"""Bytes of its frames' features by ViT-B-16, projected, in float16."""


def estimate_object_store(machine: Machine) -> int:
    """Bytes of the object store that Ray would make here by default (its own rule)."""
    cap = min(200 * 10**9, max(10**10, int(0.95 * machine.shared)))
    return min(int(0.3 * machine.memory), cap)


def check_object_store(
    capacity: int, features: Features | None, free_disk: int, running: bool
) -> Finding:
    """Compare a node's object store with the features of a sweep to come.

    `capacity` and `free_disk`, where Ray spills, are bytes. Not `running`: Ray has yet to make it.
    """
    name = "object store"
    text = size_text(capacity) if running else f"{size_text(capacity)} if Ray starts now"
    if features is None:
        text += "; no features in the store yet"
        if capacity < _AFFWILD2:
            text += f"; those of all Aff-Wild2 take {size_text(_AFFWILD2)}"
        return passed(name, text)
    text = f"{text}; features {features.name!r} take {size_text(features.size)}"
    step = f"ray start --object-store-memory={int(1.5 * features.size)}"
    if not running:
        variable = "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION=0.6"
        step = f"{variable} in the environment makes it twice as large."
    if features.size > capacity and features.size > free_disk:
        return failed(name, f"{text}, more than it and the disk hold", step)
    if features.size > capacity:
        return warned(name, f"{text}: the rest goes to the disk, and trials are slow", step)
    if features.size > 0.8 * capacity:
        return warned(name, f"{text}: little is left for anything else", step)
    return passed(name, text)


def memory_of_sweep(features: int, trials: int) -> int:
    """Bytes that a machine needs: the features once, and a process of each trial at a time.

    The command and Ray's own processes take as much as another trial. Labels and timelines are
    18 bytes a frame, 1 % of its features.
    """
    return features + (trials + 1) * TRIAL_BYTES


def check_memory(machine: Machine, features: Features | None, running: bool) -> Finding:
    """Compare free memory with what a sweep takes that has a trial on each core.

    Where Ray is `running`, the features may be there already.
    """
    size = _AFFWILD2 if features is None else features.size
    trials = max(1, int(machine.usable))
    needed = memory_of_sweep(size, trials)
    whose = "all Aff-Wild2" if features is None else repr(features.name)
    text = (
        f"{size_text(machine.memory)} free; {trials} trials at a time on {whose} take"
        f" {size_text(needed)}: {size_text(size)} of features once,"
        f" {size_text(TRIAL_BYTES)} a trial, and as much for Ray and the command"
    )
    if needed <= machine.memory or running or features is None:
        return passed("memory", text)
    fit = (machine.memory - memory_of_sweep(size, 0)) // TRIAL_BYTES
    step = f"Give tune --concurrent {fit}." if fit > 0 else "Use a machine with more memory."
    return warned("memory", text, step)


def check_shared_memory(shared: int, capacity: int) -> Finding:
    """Check that the object store fits into /dev/shm; else Ray keeps it on the disk."""
    text = f"{size_text(shared)} for an object store of {size_text(capacity)}"
    if shared >= capacity:
        return passed("/dev/shm", text)
    text += ": Ray keeps it on the disk instead, which is slow"
    step = "Give the container more: docker run --shm-size; on Kubernetes an emptyDir in memory."
    return warned("/dev/shm", text, step)


def check_gpus(gpus: Gpus, counted: float | None) -> list[Finding]:
    """Check a machine's GPUs, and Ray's count of them; None: it is yet to start and count."""
    if not gpus.devices:
        return [_check_none(gpus, counted)]
    broken = [f"{gpu.name}: {gpu.problem}" for gpu in gpus.devices if gpu.problem]
    if broken:
        return [failed("GPUs", listed(broken, 2), _build(gpus))]
    number = len(gpus.devices)
    start = f"ray start --num-gpus={number}"
    text = f"Ray counts {counted:g}, torch sees {number}" if counted is not None else ""
    findings = [_check_free(gpus)]
    if counted is not None and counted > number:
        step = f"{start}, or mend CUDA_VISIBLE_DEVICES there."
        findings.insert(0, failed("GPUs", text, step))
    elif counted is not None and counted < number:
        findings.insert(0, warned("GPUs", f"{text}: the others stay idle", f"{start}."))
    return findings


def check_any_gpu(number: float) -> Finding:
    """Check that a cluster has GPUs at all; an autoscaler may bring some later."""
    if number:
        return passed("GPUs in all", f"{number:g}")
    step = "Fine for a trial; else add nodes with GPUs (an autoscaler does when trials ask)."
    return warned("GPUs in all", "Ray counts none: training and extracting are slow", step)


def _check_none(gpus: Gpus, counted: float | None) -> Finding:
    why = f": {gpus.problem}" if gpus.problem else ""
    if counted:
        return failed("GPUs", f"Ray counts {counted:g}, torch sees none{why}", _build(gpus))
    if gpus.present:
        return failed("GPUs", f"{gpus.present} there, torch sees none{why}", _build(gpus))
    if not gpus.torch:
        return failed("GPUs", gpus.problem, "Install raffect anew in this environment.")
    if counted is None:
        step = "Fine for a trial; else use a machine or a cluster with GPUs."
        return warned("GPUs", "none: training and extracting are slow", step)
    return passed("GPUs", "none, and Ray counts none")


def _check_free(gpus: Gpus) -> Finding:
    texts = [f"{g.name} {size_text(g.free)} free of {size_text(g.total)}" for g in gpus.devices]
    text = listed(texts, 4)
    # Something else runs on a GPU with less than half of its memory free.
    busy = [gpu for gpu in gpus.devices if gpu.free < 0.5 * gpu.total]
    if busy:
        text = f"{len(busy)} of {len(gpus.devices)} are in use: {text}"
        step = "See nvidia-smi there: trials of a sweep, or somebody else."
        return warned("GPU memory", text, step)
    return passed("GPU memory", text)


def _build(gpus: Gpus) -> str:
    if gpus.torch and not gpus.built_for:
        return f"torch {gpus.torch} is built for CPUs: install one for CUDA (PyPI's is)."
    built = f"torch is built for CUDA {gpus.built_for}" if gpus.built_for else ""
    driver = f"the driver can do {gpus.driver}" if gpus.driver else ""
    facts = "; ".join(filter(None, (built, driver)))
    advice = "Update the driver, or install a torch for it; nvidia-smi there must work."
    return f"{facts[0].upper()}{facts[1:]}. {advice}" if facts else advice


_NEXT = {
    "conditional": "Use a store that refuses the second writer (AWS S3 does, a folder does):"
    " without, two commands may take the same sweep.",
}


def check_visit(visit: StoreVisit, is_local: bool) -> list[Finding]:
    """Check how the store, a folder if `is_local`, behaved from one place."""
    whole = not is_local and not any(one.problem for one in visit.actions)
    rights = {"delete": f"; so the key has {RIGHTS}"} if whole else {}
    findings = [_check_action(one, rights.get(one.action, "")) for one in visit.actions]
    # Where one of these fails, a note that is missing does not tell which store it is.
    basic = ("connect", "write", "read", "list")
    broken = any(one.problem for one in visit.actions if one.action in basic)
    if visit.skew is not None:
        findings.append(check_server_clock(visit.skew))
    if visit.saw_note is not None and not broken:
        findings.append(_check_note(visit.saw_note, is_local))
    return findings


def _check_action(done: StoreAction, rights: str) -> Finding:
    name = f"store {done.action}"
    if done.problem:
        otherwise = "Check the store's address, its permissions and its credentials there."
        return failed(name, done.problem, done.next_step or _NEXT.get(done.action, otherwise))
    text = f"{done.milliseconds:.0f} ms"
    if done.milliseconds > 1000 and done.action != "connect":
        text += ": slow; each report of a trial writes to the store"
        return warned(name, text, "Use a store nearby: the same region, the same network.")
    refused = "; the second writer was refused" if done.action == "conditional" else ""
    return passed(name, text + refused + rights)


def _check_note(saw: bool, is_local: bool) -> Finding:
    if saw:
        return passed("same store", "what the driver wrote is there")
    if is_local:
        text = "what the driver wrote is not in this folder here: it is another disk's"
        step = "Give a bucket as --store, or a folder that all nodes mount under this path."
        return failed("same store", text, step)
    text = "what the driver wrote can't be read here"
    return failed("same store", text, "Check AWS_ENDPOINT_URL and the credentials of this node.")


_USE_TOKENS = "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, on all nodes and before Ray starts."


def check_token(token: Token, joins: bool) -> Finding:
    """Check a process's token; `joins`: a cluster, rather than raffect starting Ray for it."""
    on = token.mode == "token" or (not joins and not token.mode)
    if not on:
        state = f"RAY_AUTH_MODE={token.mode}" if token.mode else "RAY_AUTH_MODE is not set"
        return warned("token", f"{state}: no token is used", _USE_TOKENS)
    if token.problem:
        return failed("token", f"{token.source}: {token.problem}", "Correct RAY_AUTH_TOKEN_PATH.")
    if token.permissions is not None and token.permissions & 0o077:
        return warned(
            "token",
            f"{token.source} can be read by others (mode {token.permissions:04o})",
            f"chmod 600 {token.source}; if others were about, make a new token.",
        )
    if not token.source and joins:
        return failed("token", "RAY_AUTH_MODE=token, but there is no token", _USE_TOKENS)
    return passed("token", f"on, from {token.source}" if joins else "on, where raffect starts Ray")


def check_access(access: Access, driver: Code, address: str) -> Finding:
    """Check that the cluster lets this process in, and runs the same Ray and Python."""
    if access.answer == "refused":
        text = f"{address} refuses this token, or wants one: {access.text}"
        step = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH with a copy of the cluster's token."
        return failed("reach", text, step)
    if access.answer != "open":
        text = f"no cluster answers at {address}: {access.text}"
        step = "Check --address or RAY_ADDRESS, and `ray status` on the head node."
        return failed("reach", text, step)
    ours = f"Ray {driver['packages'].get('ray', 'none')}, Python {driver['python']}"
    theirs = f"Ray {access.ray}, Python {access.python}"
    if ours != theirs:
        text = f"the cluster runs {theirs}; the driver {ours}"
        step = "Ray lets in the very same versions only: run it from the cluster's environment."
        return failed("reach", text, step)
    return passed("reach", f"{address} answers, {theirs}")


def check_stranger(access: Access) -> Finding:
    """Check that the cluster refuses processes without a token."""
    if access.answer == "refused":
        return passed("strangers", "refused without the token")
    if access.answer == "open":
        text = "let in without a token: whoever reaches the head node runs code on all nodes"
        return warned("strangers", text, _USE_TOKENS)
    text = f"it could not be told whether they are let in: {access.text}"
    return warned("strangers", text, "Run the command again.")
