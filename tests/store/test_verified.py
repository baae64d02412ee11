from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raffect.check import find_faults, repair
from raffect.cli.app import run
from raffect.errors import DamagedError
from raffect.store import Stage, Store, files_of
from raffect.store.manifest import has_manifest, read_manifest
from raffect.store.stage import has_plan
from raffect.store.verified import read_sealed, write_sealed

PARTS = {"0.bin": b"zero" * 9, "1.bin": b"one" * 9}


def finish(store: Store) -> list[str]:
    """Make features of two parts; the names of those that had to be made."""
    stage = Stage(store, "features/f", "features", {"a": 1}, {})
    kept = stage.parts()
    made = [name for name in PARTS if stage.finished is None and name not in kept]
    parts = [kept.get(n) or stage.write_part(n, PARTS[n], {"rows": 2}) for n in PARTS]
    if stage.finished is None:
        stage.finish(parts, {"rows": 4})
    return made


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS = (flip, truncate, Path.unlink, folder)


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_part_is_told_and_just_that_is_made_again(
    store: Store, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(store) == ["0.bin", "1.bin"]
    digest = read_manifest(store, "features/f").digest()
    assert find_faults(store) == []
    harm(Path(store.path("features/f/1.bin")))
    assert files_of(store, "features/f").read("0.bin") == PARTS["0.bin"]
    with pytest.raises(DamagedError, match=r"1\.bin"):
        files_of(store, "features/f").read("1.bin")
    assert run(["check", "--store", store.uri]) == 2
    assert "features/f/1.bin" in capsys.readouterr().err
    assert repair(store, find_faults(store)) == []
    assert finish(store) == ["1.bin"]
    assert find_faults(store) == []
    assert read_manifest(store, "features/f").digest() == digest


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
@pytest.mark.parametrize("harm", [flip, truncate])
def test_a_damaged_manifest_or_plan_costs_no_part_of_known_settings(
    store: Store, name: str, harm: Callable[[Path], None]
) -> None:
    finish(store)
    harm(Path(store.path(f"features/f/{name}")))
    assert [fault.key for fault in find_faults(store)] == [f"features/f/{name}"]
    assert repair(store, find_faults(store)) == []
    finish(store)
    assert find_faults(store) == []


def test_every_flipped_bit_of_a_sealed_file_is_told_or_changes_nothing(store: Store) -> None:
    tree = {"score": 0.25, "name": "é", "deep": {"n": [1, None]}}
    write_sealed(store, "s.json", tree)
    whole = store.read_bytes("s.json")
    for index in range(len(whole)):
        for bit in range(8):
            harmed = bytearray(whole)
            harmed[index] ^= 1 << bit
            store.write_bytes("s.json", bytes(harmed))
            try:
                found = read_sealed(store, "s.json")
            except DamagedError:
                continue
            # At worst the checksum has another name now.
            assert {key: found[key] for key in tree} == tree


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_a_folder_in_the_place_of_a_manifest_or_plan_is_damage(store: Store, name: str) -> None:
    finish(store)
    folder(Path(store.path(f"features/f/{name}")))
    look = has_manifest if name == "manifest.json" else has_plan
    with pytest.raises(DamagedError, match="is a folder"):
        look(store, "features/f")
    faults = find_faults(store)
    assert [fault.key for fault in faults] == [f"features/f/{name}"]
    assert repair(store, faults) == []
    assert find_faults(store) == []
    finish(store)


def test_what_an_earlier_version_wrote_has_no_checksum(store: Store) -> None:
    finish(store)
    for name in ("manifest.json", "plan.json"):
        tree = store.read_json(f"features/f/{name}")
        del tree["checksum"]
        tree.pop("facts", None)
        store.write_bytes(f"features/f/{name}", json.dumps(tree).encode())
    assert finish(store) == []
    assert find_faults(store) == []
    shutil.rmtree(store.path("features/f"))
    store.write_json("sweeps/s/trials/00000/config.json", {"old": 1})
    assert files_of(store, "sweeps/s/trials/00000").read_json("config.json") == {"old": 1}
