"""The S3 file system of stores: a path names one object or prefix, never a pattern."""

from __future__ import annotations

from typing import Any

from s3fs import S3FileSystem


class LiteralS3FileSystem(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """s3fs, whose rm(), get() and copy() would take `*`, `?` and `[` in a path for a glob.

    Those expand every path, so that deleting `run[12]/models` deletes `run1/models` and leaves
    `run[12]/models`. Ray Train deletes old checkpoints through the same calls, so escaping paths
    in Store.delete would not be enough.
    """

    async def _expand_path(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = True,
    ) -> list[str]:
        found: list[str] = await super()._expand_path(
            path, recursive=recursive, maxdepth=maxdepth, assume_literal=True
        )
        return found
