"""How fast: steps and their share of the roofline, trials that share a GPU, extraction."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import torch

from raffect.clip.encoder import to_images
from raffect.clip.encoding import encode_crops
from raffect.clip.images import decode_batch
from raffect.config import ExtractConfig
from raffect.settings import override
from raffect.temporal.training import Trainer
from tests.gpu.work import Scale, encoder, jpegs, task_data

Row = tuple[str, str]
_SHARING = 4


def synchronise(device: torch.device) -> None:
    """Wait for what the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Calls per second, after some to warm up."""
    for _ in range(3):
        work()
    synchronise(device)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(5):
            work()
        synchronise(device)
        done += 5
    return done / (time.perf_counter() - began)


def _peak(device: torch.device, seconds: float) -> float:
    """FLOP/s of a large matrix product in bfloat16: what the device really gives."""
    n = 8192 if device.type == "cuda" else 512
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(n, n, dtype=kind, device=device) for _ in range(2))
    return 2 * n**3 * rate(lambda: a @ b, device, seconds / 4)


def _stepper(
    scale: Scale, device: torch.device, batch: int, fused: bool = False, **changes: object
) -> Callable[[], object]:
    config = scale.config(optimiser__batch_size=batch, **changes)
    trainer = Trainer(config, task_data(scale), device=device)
    trainer._wrapped.train()
    for group in trainer._optimiser.param_groups if fused else ():
        group.update(fused=True, foreach=False)
    batches = cycle(range(trainer.steps_per_epoch))
    found: Iterator[list[object]] = iter(())

    def step() -> object:
        nonlocal found
        micro = next(found, None)
        if micro is None or next(batches) == trainer.steps_per_epoch - 1:
            found = iter(trainer._batches())  # type: ignore[assignment]
            micro = next(found)
        return trainer._step(0, micro)  # type: ignore[arg-type]

    return step


def steps(device: torch.device, scale: Scale) -> Iterator[Row]:
    """Training steps a second, and FLOP/s as a share of a large matrix product's."""
    from torch.utils.flop_counter import FlopCounterMode

    peak = _peak(device, scale.seconds)
    yield "a large matrix product", f"{peak / 1e9:8.0f} GFLOP/s"
    for batch in (32, 256):
        step = _stepper(scale, device, batch)
        step()
        with FlopCounterMode(display=False) as counter:
            step()
        found = rate(step, device, scale.seconds)
        share = found * counter.get_total_flops() / peak
        yield f"training, batch {batch}", f"{found:8.1f} steps/s, {share:5.1%} of that"
        for name, changes in OTHERWISE.items():
            if name == "compiled" and device.type == "cpu":
                # A minute for the compiler, for steps that take longer.
                yield f"training, batch {batch}, {name}", "(GPUs only)"
                continue
            other = rate(_stepper(scale, device, batch, **changes), device, scale.seconds)
            text = f"{other:8.1f} steps/s, {other / found:5.2f} x that"
            yield f"training, batch {batch}, {name}", text


OTHERWISE: dict[str, dict[str, Any]] = {
    "on host": {"run__features": "host"},
    "fused AdamW": {"fused": True},
    "compiled": {"run__compile": True},
}
_TRIAL = """
import sys, torch
from tests.gpu.speed import _stepper, rate
from tests.gpu.work import Scale
if sys.argv[1] == "cpu":
    torch.set_num_threads(1)
device, scale = torch.device(sys.argv[1]), Scale.quick() if sys.argv[2] == "1" else Scale()
step = _stepper(scale, device, 32, run__features=sys.argv[3])
step()
print(torch.cuda.memory_allocated() if sys.argv[1] == "cuda" else 0, flush=True)
sys.stdin.readline()
print(rate(step, device, scale.seconds), flush=True)
"""


def shared(device: torch.device, scale: Scale) -> Iterator[Row]:
    """Steps a second of one trial's process, and of several together on the same device.

    They have a copy of the features each on the device, or one together on the host.
    """
    alone = 0.0
    for count, place in ((1, "device"), (_SHARING, "device"), (_SHARING, "host")):
        quick = str(int(scale == Scale.quick()))
        arguments = [sys.executable, "-c", _TRIAL, device.type, quick, place]
        trials = [
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        held = 0
        for trial in trials:
            assert trial.stdout is not None
            held += int(trial.stdout.readline())
        for trial in trials:
            assert trial.stdin is not None
            trial.stdin.write("\n")
            trial.stdin.flush()
        total = sum(float(trial.communicate()[0]) for trial in trials)
        alone = alone or total
        yield (
            f"trials: {count}, features on {place}",
            f"{total:8.1f} steps/s, {total / alone:5.2f} x one, {held / 2**20:.0f} MiB",
        )


def extraction(device: torch.device, scale: Scale) -> Iterator[Row]:
    """Crops a second from JPEG to feature, and of the bare forward pass."""
    model = copy.deepcopy(encoder(scale)).to(device)
    crops = jpegs(scale)
    pixels = decode_batch(crops[:256], model.preprocessing)
    images = to_images(pixels, device)
    for precision in ("float32", "float16" if device.type == "cuda" else "bfloat16"):
        changes = {"run.device": device.type, "run.precision": precision, "decoders": 8}
        config = override(ExtractConfig(), changes)
        kind = getattr(torch, precision)

        @torch.inference_mode()
        def forward(kind: torch.dtype = kind) -> object:
            with torch.autocast(device.type, kind, enabled=kind != torch.float32):
                return model.encode(images)

        bare = len(images) * rate(forward, device, scale.seconds / 2)
        encode_crops(model, crops[:256], config)
        began = time.perf_counter()
        encode_crops(model, crops, config)
        found = len(crops) / (time.perf_counter() - began)
        text = f"{found:8.0f} crops/s, {found / bare:5.2f} x a bare forward"
        yield f"extraction, {precision}", text


MEASURES: tuple[Callable[[torch.device, Scale], Iterator[Row]], ...] = (steps, shared, extraction)
