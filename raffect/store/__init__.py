"""The store: one URI, a folder or `s3://bucket/prefix`, that every stage reads and writes."""

from raffect.store.layout import (
    DATASET,
    encoder_folder,
    features_folder,
    model_folder,
    sweep_folder,
)
from raffect.store.manifest import Manifest, files_of, read_manifest, write_manifest
from raffect.store.stage import Stage
from raffect.store.store import Store
from raffect.store.verified import FileEntry, Files

__all__ = [
    "DATASET",
    "FileEntry",
    "Files",
    "Manifest",
    "Stage",
    "Store",
    "encoder_folder",
    "features_folder",
    "files_of",
    "model_folder",
    "read_manifest",
    "sweep_folder",
    "write_manifest",
]
