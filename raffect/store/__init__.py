"""The store: one URI, a folder or `s3://bucket/prefix`, that every stage reads and writes."""

from raffect.store.layout import (
    DATASET,
    encoder_folder,
    features_folder,
    model_folder,
    sweep_folder,
)
from raffect.store.manifest import FileEntry, Manifest, read_manifest, write_manifest
from raffect.store.stage import Stage
from raffect.store.store import Store

__all__ = [
    "DATASET",
    "FileEntry",
    "Manifest",
    "Stage",
    "Store",
    "encoder_folder",
    "features_folder",
    "model_folder",
    "read_manifest",
    "sweep_folder",
    "write_manifest",
]
