"""Checks of GPUs: those that Ray gives away, those that torch sees, and what is left of them."""

from __future__ import annotations

from raffect.jobs.doctor.facts import Gpu, Gpus
from raffect.jobs.doctor.findings import Finding, failed, listed, passed, size, warned

BUSY = 0.5
"""Less free memory than that: somebody else is on the GPU, or a trial."""


def check_gpus(gpus: Gpus, counted: float | None) -> list[Finding]:
    """Check a machine's GPUs.

    Args:
        gpus: What torch and the system say.
        counted: Ray's GPUs of the node; None: no Ray runs yet, and it will count for itself.
    """
    if not gpus.devices:
        return [_check_none(gpus, counted)]
    broken = [f"{gpu.name}: {gpu.problem}" for gpu in gpus.devices if gpu.problem]
    if broken:
        return [failed("GPUs", listed(broken, 2), _build(gpus))]
    number = len(gpus.devices)
    findings = []
    if counted is not None and counted > number:
        findings.append(
            failed(
                "GPUs",
                f"Ray counts {counted:g}, torch sees {number}",
                f"ray start --num-gpus={number}, or mend CUDA_VISIBLE_DEVICES there.",
            )
        )
    elif counted is not None and counted < number:
        findings.append(
            warned(
                "GPUs",
                f"Ray counts {counted:g}, torch sees {number}: the others stay idle",
                f"ray start --num-gpus={number}.",
            )
        )
    return [*findings, _check_free(gpus)]


def check_any_gpu(number: float) -> Finding:
    """Check that a cluster has GPUs at all; an autoscaler may bring some later."""
    if number:
        return passed("GPUs in all", f"{number:g}")
    return warned(
        "GPUs in all",
        "Ray counts none: training and extracting are slow",
        "Fine for a trial; else add nodes with GPUs (an autoscaler does when trials ask).",
    )


def _check_none(gpus: Gpus, counted: float | None) -> Finding:
    why = f": {gpus.problem}" if gpus.problem else ""
    if counted:
        return failed("GPUs", f"Ray counts {counted:g}, torch sees none{why}", _build(gpus))
    if gpus.present:
        return failed("GPUs", f"{gpus.present} there, torch sees none{why}", _build(gpus))
    if not gpus.torch:
        return failed("GPUs", gpus.problem, "Install raffect anew in this environment.")
    if counted is None:
        return warned(
            "GPUs",
            "none: training and extracting are slow",
            "Fine for a trial; else use a machine or a cluster with GPUs.",
        )
    return passed("GPUs", "none, and Ray counts none")


def _check_free(gpus: Gpus) -> Finding:
    text = listed([_describe(gpu) for gpu in gpus.devices], 4)
    busy = [gpu for gpu in gpus.devices if gpu.free < BUSY * gpu.total]
    if busy:
        return warned(
            "GPU memory",
            f"{len(busy)} of {len(gpus.devices)} are in use: {text}",
            "See nvidia-smi there: trials of a sweep, or somebody else.",
        )
    return passed("GPU memory", text)


def _describe(gpu: Gpu) -> str:
    return f"{gpu.name} {size(gpu.free)} free of {size(gpu.total)}"


def _build(gpus: Gpus) -> str:
    if gpus.torch and not gpus.built_for:
        return f"torch {gpus.torch} is built for CPUs: install one for CUDA (PyPI's is)."
    built = f"torch is built for CUDA {gpus.built_for}" if gpus.built_for else ""
    driver = f"the driver can do {gpus.driver}" if gpus.driver else ""
    facts = "; ".join(filter(None, (built, driver)))
    advice = "Update the driver, or install a torch for it; nvidia-smi there must work."
    return f"{facts[0].upper()}{facts[1:]}. {advice}" if facts else advice
