"""Settings that make the real line small enough for a test; nothing of it is left out."""

from __future__ import annotations

SMALL_FINETUNE = [
    "--model", "raffect-tiny", "--pretrained", "none", "--workers", "1",
    "--set", "epochs=1", "--set", "batch_size=64", "--set", "lr=1e-3",
]  # fmt: skip
SMALL_TEMPORAL = [
    "--set", "segments.window=32", "--set", "segments.stride=24",
    "--set", "model.tcn.channels=[16,16]", "--set", "model.width=16",
    "--set", "model.transformer.layers=1", "--set", "model.transformer.feedforward=32",
    "--set", "model.head_hidden=16", "--set", "optimiser.lr=1e-3",
    "--set", "optimiser.batch_size=16", "--set", "optimiser.epochs=2",
]  # fmt: skip
