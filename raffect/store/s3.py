"""The S3 file system of stores: a path names one object or prefix, never a pattern."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

_MOST_IN_BULK = 1000
"""Keys that one DeleteObjects may name."""
_PARALLEL = 16


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

    async def _delete_keys(self, paths: Sequence[str]) -> None:
        """Delete exactly these objects of one bucket; one that is absent is no error.

        Servers that know no bulk deletion, and keys that it did not delete, get single requests,
        whose refusal is raised: s3fs takes a bulk deletion's errors for success.
        """
        for start in range(0, len(paths), _MOST_IN_BULK):
            named = [self.split_path(path)[:2] for path in paths[start : start + _MOST_IN_BULK]]
            deleted = await self._delete_in_bulk(named) if len(named) > 1 else set()
            left = [one for one in named if one[1] not in deleted]
            for first in range(0, len(left), _PARALLEL):
                some = left[first : first + _PARALLEL]
                await asyncio.gather(*(self._delete_one(*one) for one in some))

    delete_keys = sync_wrapper(_delete_keys)

    async def _delete_in_bulk(self, named: Sequence[tuple[str, str]]) -> set[str]:
        """The keys that the server says it has deleted."""
        wanted = {"Objects": [{"Key": key} for _, key in named], "Quiet": False}
        try:
            answer = await self._call_s3("delete_objects", Bucket=named[0][0], Delete=wanted)
        except OSError:
            return set()
        return {one["Key"] for one in answer.get("Deleted", [])}

    async def _delete_one(self, bucket: str, key: str) -> None:
        try:
            await self._call_s3("delete_object", Bucket=bucket, Key=key)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error.__cause__):
                raise

    async def _rm(self, path: str | list[str], recursive: bool = False, **_: Any) -> None:
        for one in [path] if isinstance(path, str) else path:
            found = await self._lsdir(one, delimiter="") if recursive else []
            keys = [info["name"] for info in found]
            await self._delete_keys(keys if one.rstrip("/") in keys else [one, *keys])
