"""Each kind of stored file, damaged in each way, under each command that reads it."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability import filled
from tests.durability.mutation import Tally, show
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
    tallies: dict[str, Tally] = defaultdict(Tally)
    for name, reading in read_all(store, tmp_path).items():
        one_of_each = {kind_of(str(Path(f).relative_to(store.uri))): f for f in reading.files}
        for kind, file in sorted(one_of_each.items()):
            path, whole = Path(file), Path(file).read_bytes()
            for harm, do in HARMS.items():
                do(path, whole)
                try:
                    tallies[name].count(
                        f"{kind}, {harm}", use(COMMANDS[name], store, tmp_path, reading)
                    )
                finally:
                    if path.is_dir():
                        shutil.rmtree(path)
                    path.write_bytes(whole)
    assert show(tallies)
    cells = sum(tally.inputs for tally in tallies.values())
    assert cells > 100
    assert sum(tally.refused for tally in tallies.values()) > cells / 2
