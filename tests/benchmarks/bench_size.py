"""How cost grows with the data: crops through prepare and check, frames through training.

    python -m tests.benchmarks.bench_size [--quick | --full]

Crops: shards of 16 MiB are written as `prepare`'s workers do, read back as `check` does, and
decoded and encoded as `extract`'s do, by a tiny tower; crops per CPU second, the peak beyond what
was held before, and requests per shard on a local S3 server. Then an epoch of fine-tuning's input,
mixed and decoded, against a plain DataLoader. Frames: 768 features in float16; CPU seconds and
peak of loading them, of an epoch of a model without TCN and Transformer, and of its validation;
and what follows for Aff-Wild2. Each line is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from raffect.affwild2.labels import VideoLabels, labels_file, to_parquet
from raffect.affwild2.pixels import read_image
from raffect.affwild2.scan import scan
from raffect.affwild2.shards import plan_shards, read_shard, write_shard
from raffect.affwild2.tasks import Split, Task
from raffect.clip.encoder import FrameEncoder, build_encoder
from raffect.clip.encoding import encode_crops
from raffect.clip.extract import extract
from raffect.config import ExtractConfig, FinetuneConfig, recipe
from raffect.doctor.checks import memory_of_sweep
from raffect.settings import override
from raffect.store import DATASET, Files, Stage, Store, features_folder
from raffect.store import features as feature_files
from raffect.store.manifest import FileEntry, make_manifest, write_manifest
from raffect.temporal.data import load_task_data
from raffect.temporal.resident import ResidentData
from raffect.temporal.training import Trainer
from raffect.testing.s3 import S3Server, environment, start_s3_server
from tests.benchmarks import finetuning
from tests.benchmarks.measuring import peak_mb, reset_peak, resident_mb
from tests.clip.clip_data import make_dataset, write_encoder
from tests.durability.proxy import Wire, wire_to

PER_VIDEO = 2_000
SHARD = 16 * 2**20
CROPS, FRAMES, CORES = 2_900_000, 1_500_000, (2, 16, 64)
"""All of Aff-Wild2, and a task's labelled frames."""
DIM = 768
BARE = {
    "model.tcn.depth": 0,
    "model.transformer.layers": 0,
    "optimiser.epochs": 1,
    "run.device": "cpu",
}


def spent(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and its value."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def make_crops(root: Path, crops: int) -> None:
    """A tree of so many crops: links to a few."""
    rng = np.random.default_rng(0)
    kept = root / "kept"
    kept.mkdir(parents=True)
    for n in range(20):
        pixels = rng.integers(0, 255, (14, 14, 3), dtype=np.uint8)
        crop = Image.fromarray(pixels).resize((112, 112), Image.Resampling.BICUBIC)
        sink = io.BytesIO()
        crop.save(sink, "JPEG", quality=90)
        (kept / f"{n}.jpg").write_bytes(sink.getvalue())
    for number in range(crops):
        folder = root / "crops" / f"v{number // PER_VIDEO:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(kept / f"{number % 20}.jpg", folder / f"{number % PER_VIDEO + 1:05d}.jpg")


def crops_through(root: str, uri: str) -> dict[str, float]:
    """Figures of a tree of crops."""
    store = Store(uri)
    scanned, found = spent(lambda: scan([root], 1))
    shards = plan_shards(found.videos, SHARD)
    stage, before = Stage(store, DATASET, "dataset", {}, {}), resident_mb()
    reset_peak()
    wrote, parts = spent(lambda: [write_shard(stage, shard) for shard in shards])
    grown = peak_mb() - before
    entries = {part.entry.name: part.entry for part in parts}
    files = Files(store, DATASET, entries)
    read, _ = spent(lambda: [len(files.read(name)) for name in entries])
    jpegs = read_shard(files.read(next(iter(entries))), ["jpeg"])["jpeg"].to_pylist()[:2000]
    decoded, _ = spent(lambda: [read_image(jpeg) for jpeg in jpegs])
    figures = {"scan": scanned, "prepare": wrote, "check": read}
    figures["decode"] = decoded * found.crops / len(jpegs)
    torch.set_num_threads(1)
    shape = {"encoder.model": "raffect-tiny", "encoder.pretrained": None}
    tiny = override(FinetuneConfig(), shape)
    encoder = build_encoder(tiny.encoder, tiny.head, 0, guess=False).eval()
    encode_crops(encoder, jpegs[:100], ExtractConfig())
    held = resident_mb()
    reset_peak()
    figures["extract"], _ = spent(lambda: _extract(encoder, files))
    grown_by = peak_mb() - held
    return {
        **figures, "peak": grown, "extract_mb": grown_by, "crops": found.crops,
        "shards": len(shards),
    }  # fmt: skip


def _extract(encoder: FrameEncoder, files: Files) -> None:
    """As extract's actors do, shard by shard."""
    for name in files.entries:
        table = files.parse_table(name, partial(read_shard, columns=["video", "frame", "jpeg"]))
        features = encode_crops(encoder, table["jpeg"].to_pylist(), ExtractConfig())
        videos = table["video"].cast(pa.string()).to_pylist()
        feature_files.to_parquet(videos, table["frame"].to_numpy(), features)


def make_frames(store: Store, frames: int) -> None:
    """Labels and features of VA; the values are noise, the same in each file."""
    rng, videos = np.random.default_rng(0), frames // PER_VIDEO
    names = [f"v{number:04d}" for number in range(videos)]
    values = rng.uniform(-1, 1, (PER_VIDEO, 2)).astype(np.float32)
    valid = np.ones(PER_VIDEO, bool)
    splits = [Split.VALIDATION if number % 5 == 0 else Split.TRAIN for number in range(videos)]
    labels = {n: VideoLabels(n, of, values, valid) for n, of in zip(names, splits, strict=True)}
    entries = [_write(store, DATASET, labels_file(Task.VA), to_parquet(Task.VA, labels))]
    dataset = make_manifest("dataset", {}, {}, entries)
    write_manifest(store, DATASET, dataset)
    rows = rng.standard_normal((PER_VIDEO, DIM), np.float32)
    numbers = np.arange(1, PER_VIDEO + 1, dtype=np.int32)
    folder, per_file, entries = features_folder("clip"), 25, []
    for start in range(0, videos, per_file):
        some = names[start : start + per_file]
        data = feature_files.to_parquet(
            np.repeat(some, PER_VIDEO).tolist(),
            np.tile(numbers, len(some)),
            np.tile(rows, (len(some), 1)),
        )
        entries.append(_write(store, folder, f"{start // per_file:05d}.parquet", data))
    facts = {"rows": videos * PER_VIDEO, "dim": DIM}
    of = {DATASET: dataset.digest()}
    write_manifest(
        store, folder, make_manifest("features", {"encoder": "clip"}, of, entries, facts)
    )


def _write(store: Store, folder: str, name: str, data: bytes) -> FileEntry:
    store.write_bytes(f"{folder}/{name}", data)
    return FileEntry.of(name, data)


def frames_through(uri: str) -> dict[str, float]:
    """Figures of a store of features."""
    torch.set_num_threads(1)
    before = resident_mb()
    reset_peak()
    loaded, data = spent(lambda: load_task_data(Store(uri), "clip", Task.VA))
    after = peak_mb()
    pa.default_memory_pool().release_unused()
    held = resident_mb()
    reset_peak()
    resident = ResidentData(data, torch.device("cpu"))
    trainer = Trainer(override(recipe(Task.VA), BARE), resident)
    epoch, _ = spent(trainer.run_epoch)
    validated, _ = spent(trainer.validate)
    size = data.features.nbytes / 1e6
    peaks = {"load_mb": after - before, "train_mb": peak_mb() - held, "mb": size}
    peaks["held_mb"] = held - before
    return {"load": loaded, "epoch": epoch, "validate": validated, **peaks}


def measured(*arguments: str) -> dict[str, float]:
    """What a process of its own prints."""
    module = [sys.executable, "-m", "tests.benchmarks.bench_size", "--measure", *arguments]
    done = subprocess.run(module, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def requests_per_shard(root: str, shards: float) -> float:
    """On S3, of writing and of reading back."""
    with counted() as (server, wire):
        with wire.counting() as seen:
            measured(root, f"s3://{server.new_bucket()}/size")
        return len(seen) / shards


def requests_of_extract() -> tuple[float, float]:
    """Those of `extract` on S3, a shard and besides, from datasets of 2 and of 10 shards."""
    found = []
    with counted() as (server, wire):
        for shards in (2, 10):
            store = Store(f"s3://{server.new_bucket()}/size")
            make_dataset(store, shards=shards)
            write_encoder(store)
            with wire.counting() as seen:
                extract(Store(store.uri), "clip", "clip", ExtractConfig(batch_size=32))
            found.append(len(seen))
    each = (found[1] - found[0]) / 8
    return each, found[0] - 2 * each


@contextmanager
def counted() -> Iterator[tuple[S3Server, Wire]]:
    """A local S3 server, and the proxy in front of it by which it is reached."""
    server = start_s3_server()
    try:
        with wire_to(server.endpoint) as wire:
            there = {**server.environment(), "AWS_ENDPOINT_URL": wire.endpoint}
            with environment(there):
                yield server, wire
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true", help="160,000 crops, 1.5 million frames")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        one = len(chosen.measure) == 1
        print(json.dumps((frames_through if one else crops_through)(*chosen.measure)))
        return
    steps = ("scan", "prepare", "check", "decode", "extract")
    print(
        "  crops shards "
        + " ".join(f"{name:>8s}" for name in steps)
        + "  peak MB of prepare and extract  (crops/CPU s)"
    )
    for crops in [4_000] if chosen.quick else [8_000, 40_000, *[160_000] * chosen.full]:
        with tempfile.TemporaryDirectory() as folder:
            make_crops(Path(folder), crops)
            root = f"{folder}/crops"
            found = measured(root, f"{folder}/store")
            rates = " ".join(f"{crops / max(found[name], 1e-3):8,.0f}" for name in steps)
            print(
                f"{crops:7,d} {found['shards']:6.0f} {rates} {found['peak']:8.0f}"
                f" {found['extract_mb']:8.0f}",
                flush=True,
            )
            if crops <= 8_000:
                print(f"        {requests_per_shard(root, found['shards']):.1f} requests a shard")
                each, rest = requests_of_extract()
                print(f"        extract: {each:.1f} requests a shard, {rest:.0f} besides")
    for name, of in (("prepare", ("scan", "prepare")), ("extract", ("check", "extract"))):
        cpu = CROPS / crops * sum(found[step] for step in of)
        print(f"{name} of {CROPS:,} crops, {cpu / 3600:.2f} CPU hours: ", end="")
        print(", ".join(f"{cpu / cores / 60:,.0f} minutes on {cores} cores" for cores in CORES))
    crops = 1_000 if chosen.quick else 100_000 if chosen.full else 8_000
    with tempfile.TemporaryDirectory() as folder:
        make_crops(Path(folder), 20)
        jpegs = [path.read_bytes() for path in sorted(Path(folder, "kept").iterdir())]
    print(f"an epoch of {crops:,} crops at {finetuning.SIZE} pixels: wall s, crops per CPU s")
    for way, figures in finetuning.compare(jpegs, crops):
        print(f"{way:21} {figures['wall']:8.1f} {crops / figures['cpu']:8,.0f}", flush=True)
    sizes = []
    print("   frames features MB  load s  held MB  peak MB  epoch s validation train MB")
    for frames in [20_000] if chosen.quick else [50_000, 200_000, *[FRAMES] * chosen.full]:
        with tempfile.TemporaryDirectory() as folder:
            make_frames(Store(folder), frames)
            found = measured(folder)
        share = found["validate"] / found["epoch"]
        print(
            f"{frames:9,d} {found['mb']:11.0f} {found['load']:7.2f} {found['held_mb']:8.0f}"
            f" {found['load_mb']:8.0f} {found['epoch']:8.1f} {share:10.0%}"
            f" {found['train_mb']:8.0f}",
            flush=True,
        )
        sizes.append((frames, found["held_mb"]))
    if len(sizes) > 1:
        (few, less), (many, more) = sizes[0], sizes[-1]
        print(f"a frame: {1e6 * (more - less) / (many - few):,.0f} bytes, {2 * DIM:,} of features")
    needed = [memory_of_sweep(CROPS * DIM * 2, trials) / 1e9 for trials in CORES]
    print(
        f"a sweep on features of {CROPS:,} crops, with a trial per core, by the doctor: ", end=""
    )
    print(", ".join(f"{gb:.1f} GB on {n} cores" for gb, n in zip(needed, CORES, strict=True)))


if __name__ == "__main__":
    main()
