"""Device, precision and random numbers of a model in training or prediction."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch

from raffect.config import Device, FeatureRunConfig, RunConfig
from raffect.errors import SettingsError


def choose_device(wanted: Device) -> torch.device:
    """The device; auto is the GPU where there is one.

    Raises:
        SettingsError: A GPU is wanted and none can be used.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "run.device = cuda, and this machine has no GPU that PyTorch can use.",
            "auto, cpu",
            "Leave run.device at auto, or ask for a machine with a GPU.",
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def check_compiler(device: torch.device) -> None:
    """Refuse run.compile where torch.compile can't make programs.

    Raises:
        SettingsError: There is no C++ compiler, or for a GPU no Triton.
    """
    compiler = os.environ.get("CXX", "g++")
    lacks = "" if shutil.which(compiler) else f"C++ compiler ({compiler})"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        lacks = "Triton"
    if lacks:
        raise SettingsError(
            f"run.compile = true, and this machine has no {lacks}, which torch.compile needs.",
            "false, or a machine with it",
            f"Leave run.compile at false, or install the {lacks}.",
        )


def mixed_type(run: RunConfig | FeatureRunConfig, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for float32 alone; `auto` mixes in training on GPUs."""
    if run.precision == "auto":
        trains = isinstance(run, RunConfig)
        return torch.bfloat16 if trains and device.type == "cuda" else None
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(run.precision)


def autocast(
    run: RunConfig | FeatureRunConfig, device: torch.device
) -> AbstractContextManager[object]:
    """Mixed precision as the settings say."""
    mixed = mixed_type(run, device)
    return torch.autocast(device.type, dtype=mixed or torch.bfloat16, enabled=mixed is not None)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Convolutions in whole float32 on GPUs, where cuDNN cuts factors to TF32's 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Seed PyTorch's generators from `key` for a block; their state is restored afterwards.

    So a run's numbers do not depend on what the process did before, and checkpoints hold no
    generator state: that of each epoch follows from the seed and the epoch.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        yield


def free_memory() -> None:
    """Return PyTorch's cached GPU memory to the device, e.g. after running out of it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
