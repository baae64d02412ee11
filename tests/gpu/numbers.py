"""What must be right on a GPU; each check returns what it found, or raises AssertionError."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist

from raffect.affwild2.tasks import Task
from raffect.clip.encoder import to_images
from raffect.clip.encoding import encode_crops
from raffect.clip.images import decode_batch
from raffect.config import ExtractConfig
from raffect.settings import override
from raffect.sweep.failures import OUT_OF_MEMORY, kind_of, reason_of
from raffect.temporal.inference import predict_resident
from raffect.temporal.training import Trainer
from raffect.training.device import free_memory
from raffect.training.loop import NotFiniteError
from raffect.training.reduce import LOCAL, GroupReducer
from tests.gpu.work import Scale, encoder, jpegs, task_data

CPU = torch.device("cpu")


def _trainer(
    scale: Scale, device: torch.device, task: Task = Task.VA, **changes: object
) -> Trainer:
    config = scale.config(task, **{"optimiser__epochs": 2, "optimiser__lr": 1e-4, **changes})
    return Trainer(config, task_data(scale, task), device=device)


def _small(scale: Scale) -> Scale:
    """Few videos: the CPU has to do it too."""
    return replace(scale, videos=8, frames=min(scale.frames, 900))


def predictions(device: torch.device, scale: Scale) -> str:
    """Predictions of the same weights"""
    here, there = (_trainer(_small(scale), of) for of in (CPU, device))
    there.model.load_state_dict(here.model.state_dict())
    found = [
        predict_resident(of.model, of.config, of._resident.validation) for of in (here, there)
    ]
    error = float(np.abs(found[0] - found[1]).max())
    assert error < 1e-4, f"{error:.1e} apart"
    return f"{error:.1e} apart"


def gradients(device: torch.device, scale: Scale) -> str:
    """Loss of the first step, each task"""
    none = {"model__tcn__dropout": 0.0, "model__transformer__dropout": 0.0}
    worst = 0.0
    for task in Task:
        both = []
        for of in (CPU, device):
            trainer = _trainer(
                _small(scale), of, task, run__precision="float32", model__head_dropout=0.0, **none
            )
            both.append(float(trainer._step(0, next(iter(trainer._batches())))))
        worst = max(worst, abs(both[0] - both[1]) / abs(both[0]))
    assert worst < 1e-4, f"{worst:.1e} of the loss"
    return f"{worst:.1e} of the loss at most"


def mixed(device: torch.device, scale: Scale) -> str:
    """CCC of 2 epochs, bfloat16 for float32"""
    scores = {}
    for precision in ("float32", "bfloat16"):
        trainer = _trainer(
            _small(scale), device, run__precision=precision, optimiser__lr=1e-3,
            optimiser__batch_size=8,
        )  # fmt: skip
        trainer.run_epoch()
        scores[precision] = trainer.run_epoch().score
    apart = abs(scores["float32"] - scores["bfloat16"])
    assert apart < 0.05, f"{scores}"
    return f"{apart:.4f} apart, from {scores['float32']:.3f}"


def resumed(device: torch.device, scale: Scale) -> str:
    """2 epochs with a checkpoint between"""
    whole, part = (_trainer(_small(scale), device) for _ in range(2))
    whole.run_epoch()
    expected = whole.run_epoch().score
    part.run_epoch()
    again = _trainer(_small(scale), device)
    again.restore(part.save())
    apart = abs(again.run_epoch().score - expected)
    # Sums by atomic additions have no fixed order on a GPU.
    assert apart < (0.01 if device.type == "cuda" else 1e-12), f"{apart:.1e} apart"
    return f"{apart:.1e} apart"


def accumulated(device: torch.device, scale: Scale) -> str:
    """Loss of a batch in 4 parts"""
    both = []
    for parts in (1, 4):
        trainer = _trainer(
            _small(scale), device, optimiser__accumulation=parts, run__precision="float32"
        )
        trainer.model.eval()
        trainer._wrapped.eval()
        both.append(float(trainer._step(0, next(iter(trainer._batches())))))
    apart = abs(both[0] - both[1]) / abs(both[0])
    assert apart < 1e-4, f"{apart:.1e} of the loss"
    return f"{apart:.1e} of the loss"


def hosted(device: torch.device, scale: Scale) -> str:
    """2 epochs with the features on the host"""
    found = {}
    for place in ("device", "host"):
        trainer = _trainer(_small(scale), device, run__features=place, optimiser__batch_size=8)
        found[place] = [trainer.run_epoch().loss for _ in range(2)]
    apart = max(abs(a - b) for a, b in zip(*found.values(), strict=True))
    assert apart < 1e-4, f"{apart:.1e} apart"
    return f"{apart:.1e} apart"


def not_finite(device: torch.device, scale: Scale) -> str:
    """Weights that are not finite: `nan`"""
    trainer = _trainer(_small(scale), device)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    try:
        trainer.run_epoch()
    except NotFiniteError as error:
        return reason_of(error)[:40]
    raise AssertionError("it went on")


def out_of_memory(device: torch.device, scale: Scale) -> str:
    """A full GPU: `oom`, its memory is freed"""
    if device.type != "cuda":
        return "(GPUs only)"
    before = torch.cuda.mem_get_info()[0]
    reason = "none"
    try:
        held = [torch.empty(2**33, dtype=torch.uint8, device=device) for _ in range(1000)]
        reason = f"none with {8 * len(held)} GiB"
    except torch.OutOfMemoryError as error:
        reason = reason_of(error)
    assert kind_of(reason) == OUT_OF_MEMORY, reason
    free_memory()
    lost = before - torch.cuda.mem_get_info()[0]
    assert lost < 2**28, f"{lost / 2**20:.0f} MiB are gone"
    return "as it should be"


def reduced(device: torch.device, scale: Scale) -> str:
    """Loss of a step by NCCL and DDP"""
    config = _trainer(_small(scale), device, run__precision="float32").config
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29571")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=0, world_size=1)
    found = []
    try:
        for reducer in (LOCAL, GroupReducer()):
            trainer = Trainer(config, task_data(_small(scale)), reducer, device)
            trainer._wrapped.eval()
            found.append(float(trainer._step(0, next(iter(trainer._batches())))))
    finally:
        dist.destroy_process_group()
    first, second = found
    apart = abs(first - second) / abs(first)
    assert apart < 1e-5, f"{apart:.1e} of the loss"
    return f"{apart:.1e} of the loss"


def features(device: torch.device, scale: Scale) -> str:
    """Features in float32"""
    crops = jpegs(scale)[:32]
    config = override(ExtractConfig(), {"run.device": "cpu", "batch_size": 16, "dtype": "float32"})
    here = encode_crops(encoder(scale), crops, config)
    moved = copy.deepcopy(encoder(scale)).to(device)
    there = encode_crops(moved, crops, override(config, {"run.device": device.type}))
    norms = np.linalg.norm(here, axis=1)
    error = float((np.linalg.norm(here - there, axis=1) / norms).max())
    assert error < 1e-3, f"{error:.1e}"
    return f"{error:.1e} at most"


def half(device: torch.device, scale: Scale) -> str:
    """Features in float16 for float32"""
    pixels = to_images(decode_batch(jpegs(scale)[:32], encoder(scale).preprocessing), device)
    moved = copy.deepcopy(encoder(scale)).to(device)
    with torch.inference_mode():
        whole = moved.encode(pixels).float()
        with torch.autocast(
            device.type, torch.float16 if device.type == "cuda" else torch.bfloat16
        ):
            mixed_up = moved.encode(pixels).float()
    error = float(((whole - mixed_up).norm(dim=1) / whole.norm(dim=1)).max())
    assert error < 0.05, f"{error:.1e}"
    return f"{error:.1e} at most"


CHECKS: tuple[Callable[[torch.device, Scale], str], ...] = (
    predictions, gradients, mixed, resumed, accumulated, hosted, not_finite, out_of_memory,
    reduced, features, half,
)  # fmt: skip
