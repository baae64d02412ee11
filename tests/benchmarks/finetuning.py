"""An epoch of fine-tuning as raffect feeds it, and from a plain DataLoader (see bench_size)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raffect import engine
from raffect.affwild2.folds import load_fold
from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.shards import ROWS_PER_GROUP
from raffect.affwild2.tasks import Split, Task
from raffect.clip.finetune import batches_of
from raffect.clip.images import Preprocessing
from raffect.clip.ingest import WorkerFrames, choose_frames, read_frames
from raffect.store import DATASET, Stage, Store

SIZE, BATCH, PER_SHARD, HELD_OUT = 224, 256, 4_000, 256
WAYS = (
    "raffect, one machine",
    "raffect, cluster",
    "DataLoader, 0",
    "DataLoader, 1",
    "DataLoader, 2",
)


def make_labelled(store: Store, jpegs: list[bytes], crops: int) -> None:
    """Crops with expressions: one video a shard, and one to validate on."""
    stage, rng = Stage(store, DATASET, "dataset", {}, {}), np.random.default_rng(0)
    sizes = [min(PER_SHARD, crops - at) for at in range(0, crops, PER_SHARD)] + [HELD_OUT]
    labels, parts = {}, []
    for number, size in enumerate(sizes):
        name = f"v{number:04d}"
        values = rng.integers(0, 8, (size, 1)).astype(np.float32)
        split = Split.VALIDATION if size == HELD_OUT else Split.TRAIN
        labels[name] = VideoLabels(name, split, values, np.ones(size, bool))
        names = pa.array([name] * size).dictionary_encode()
        rows = pa.array([jpegs[i % len(jpegs)] for i in range(size)], pa.binary())
        frames = pa.array(np.arange(1, size + 1, dtype=np.int32))
        table = pa.table({"video": names, "source": names, "frame": frames, "jpeg": rows})
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="none")
        parts.append(stage.write_part(f"frames/{number:05d}.parquet", sink.getvalue()))
    for task in Task:
        own = labels if task is Task.EXPR else {}
        parts.append(stage.write_part(labels_file(task), to_parquet(task, own)))
    stage.finish(parts, {"crops": {"readable": sum(sizes), "unreadable": []}})


class Crops(Dataset[tuple[Tensor, int]]):
    """As open_clip prepares them but for the normalisation, which the model does."""

    def __init__(self, jpegs: list[bytes], crops: int) -> None:
        self._jpegs, self._crops = jpegs, crops
        cut = transforms.CenterCrop(SIZE)
        bicubic = transforms.InterpolationMode.BICUBIC
        self._transform = transforms.Compose([transforms.Resize(SIZE, bicubic), cut])

    def __len__(self) -> int:
        return self._crops

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = Image.open(io.BytesIO(self._jpegs[number % len(self._jpegs)])).convert("RGB")
        return torch.from_numpy(np.array(self._transform(image))), number % 8


def used() -> float:
    """CPU seconds of this process and all that it has begun."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks[pid] for pid in own) / os.sysconf("SC_CLK_TCK")


def steps(batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Train a linear model on the means of patches, as quick as a GPU is; the number of images."""
    model, images = torch.nn.LazyLinear(8), 0
    for pixels, labels in batches:
        small = torch.nn.functional.avg_pool2d(pixels[..., 0].float().unsqueeze(1), 32)
        loss = torch.nn.functional.cross_entropy(model(small.flatten(1) / 255), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        images += len(labels)
    return images


def epoch(way: str, folder: str, crops: int) -> dict[str, float]:
    """Seconds of the second epoch, and CPU seconds."""
    torch.set_num_threads(1)
    store = Store(folder)
    if "raffect" in way:
        engine.connect(None)
        chosen = choose_frames(load_fold(store, Task.EXPR, None), 1)
        seen = Preprocessing(SIZE, SIZE, (0.5,) * 3, (0.5,) * 3)
        (frames,) = read_frames(store, chosen.train, seen, 1, 0, way == WAYS[0])
        batches: Iterable[Any] = Epochs(frames)
    else:
        jpegs = pq.read_table(f"{folder}/dataset/frames/00000.parquet")["jpeg"].to_pylist()
        workers = int(way.split()[-1])
        batches = DataLoader(Crops(jpegs, crops), BATCH, shuffle=True, num_workers=workers)
    assert steps(batches) == crops
    began, before = time.time(), used()
    assert steps(batches) == crops
    return {"wall": time.time() - began, "cpu": used() - before}


class Epochs:
    """A worker's frames, from the start each time."""

    def __init__(self, frames: WorkerFrames) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return batches_of(self._frames, BATCH, 0)


def compare(jpegs: list[bytes], crops: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Each way's figures, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        make_labelled(Store(folder), jpegs, crops)
        for way in WAYS:
            module = [sys.executable, "-m", "tests.benchmarks.finetuning", way, folder, str(crops)]
            quick = {**os.environ, "RAY_worker_niceness": "0"}
            done = subprocess.run(module, env=quick, capture_output=True, text=True, check=True)
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            yield way, found


if __name__ == "__main__":
    print(json.dumps(epoch(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
