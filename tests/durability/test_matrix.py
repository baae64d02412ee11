"""Each kind of stored file, damaged in each way, under each command that reads it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability import filled
from tests.durability.stored import COMMANDS, read_all, use

Harm = Callable[[Path, bytes], object]


def _folder(path: Path, whole: bytes) -> None:
    path.unlink()
    path.mkdir()


HARMS: dict[str, Harm] = {
    "flip": lambda path, whole: path.write_bytes(
        whole[: len(whole) // 2]
        + bytes([whole[len(whole) // 2] ^ 1])
        + whole[len(whole) // 2 + 1 :]
    ),
    "truncate": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "delete": lambda path, whole: path.unlink(),
    "folder": _folder,
}


def kind_of(key: str) -> str:
    """A file's key without numbers and names: one of each kind is damaged."""
    group, _, below = key.partition("/")
    return f"{group}/{re.sub(r'[0-9]+', 'N', below)}"


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_every_damaged_file_is_told_or_harmless(ray_local: None, tmp_path: Path) -> None:
    store = filled.fill(tmp_path)
    problems: list[str] = []
    cells = refused = 0
    for name, reading in read_all(store, tmp_path).items():
        one_of_each = {kind_of(str(Path(f).relative_to(store.uri))): f for f in reading.files}
        for kind, file in sorted(one_of_each.items()):
            path, whole = Path(file), Path(file).read_bytes()
            for harm, do in HARMS.items():
                do(path, whole)
                cells += 1
                try:
                    refused += not use(COMMANDS[name], store, tmp_path, reading)()
                except Exception as error:
                    last = str(error).strip().splitlines()[-1:]
                    problems.append(f"{name}, {kind}, {harm}: {type(error).__name__} {last}")
                finally:
                    if path.is_dir():
                        shutil.rmtree(path)
                    path.write_bytes(whole)
    print(f"{cells} cells: {refused} refused, {cells - refused - len(problems)} right")
    assert not problems, "\n".join(problems)
    assert cells > 100
    assert refused > cells / 2
