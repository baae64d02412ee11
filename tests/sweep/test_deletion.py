"""Deleting folders of a store: what goes, what depends on it, what a running command holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raffect.cli.app import run
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.store import FileEntry, Stage, Store
from raffect.store.lease import held
from raffect.store.stage import StagePart
from raffect.sweep.deletion import delete, plan_deletion
from tests.sweep import tiny
from tests.sweep.drivers import epochs, open_driver, rows


def make(store: Store, folder: str, kind: str, sources: tuple[str, ...] = ()) -> None:
    stage = Stage(store, folder, kind, {}, dict.fromkeys(sources, "digest"))  # type: ignore[arg-type]
    store.write_bytes(f"{folder}/data.bin", b"12345")
    stage.finish([StagePart(entry=FileEntry.of("data.bin", b"12345"))])


@pytest.fixture
def filled(store: Store) -> Store:
    make(store, "encoders/clip", "encoder")
    make(store, "features/clip", "features", ("encoders/clip",))
    make(store, "features/clip-large", "features")
    make(store, "models/va", "model", ("features/clip",))
    make(store, "models/both", "ensemble", ("models/va", "sweeps/s/trials/00001"))
    make(store, "sweeps/s", "sweep", ("features/clip",))
    study = open_driver(store, 2, tiny.base(), pruning="none")
    for number in range(2):
        study.next()
        study.complete(number, epochs(0.1))
    return store


@pytest.mark.parametrize(
    ("name", "folder", "dependents"),
    [
        ("va", "models/va", ("models/both",)),
        ("sweeps/s", "sweeps/s", ("models/both",)),
        ("encoders/clip", "encoders/clip", ("features/clip",)),
        ("features/clip", "features/clip", ("models/va", "sweeps/s")),
        ("clip-large", "features/clip-large", ()),
    ],
)
def test_what_goes_and_what_depends_on_it(
    filled: Store, name: str, folder: str, dependents: tuple[str, ...]
) -> None:
    (found,) = plan_deletion(filled, [name])
    assert (found.folder, found.size, found.dependents) == (folder, 5, dependents)
    before = filled.files("")
    delete(filled, folder)
    assert filled.files("") == [key for key in before if not key.startswith(f"{folder}/")]
    with pytest.raises(NotThereError):
        plan_deletion(filled, [folder])


@pytest.mark.parametrize(
    ("name", "error"),
    [("clip", SettingsError), ("nothing", NotThereError), ("dataset/x", NotThereError),
     ("../x", NotThereError), ("sweeps/*", SettingsError)],
)  # fmt: skip
def test_names_are_exact(filled: Store, name: str, error: type) -> None:
    with pytest.raises(error):
        plan_deletion(filled, [name])


def test_what_a_live_command_needs_stays(filled: Store) -> None:
    with held(filled, "sweeps/s/lease"):
        for name in ("sweeps/s", "features/clip"):
            with pytest.raises(ConflictError, match=r"Process \d+ on .* is at sweeps/s"):
                plan_deletion(filled, [name])
    assert len(plan_deletion(filled, ["sweeps/s", "features/clip"])) == 2


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(6))
def test_a_kill_on_the_way_leaves_nothing_that_passes_for_whole(
    filled: Store, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Callable[..., None] = filled.delete_keys
    steps = iter(range(after))

    def dying(keys: list[str]) -> None:
        if next(steps, None) is None:
            raise Killed
        plain(keys)

    with monkeypatch.context() as patch:
        patch.setattr(filled, "delete_keys", dying)
        try:
            delete(filled, "sweeps/s")
        except Killed:
            assert after == 0 or not filled.exists("sweeps/s/manifest.json")
            if filled.files("sweeps/s/study"):
                assert [row.number for row in rows(filled)] in ([], [0], [0, 1])
    for lease in filled.files("sweeps/s/lease"):
        filled.delete(lease)
    if "s" in filled.names("sweeps"):
        delete(filled, "sweeps/s")
    assert filled.files("sweeps/s") == []


def test_nobody_to_ask_is_no_yes(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["delete", "models/va", "--store", filled.uri]) == 2
    assert "--yes" in capsys.readouterr().err
    assert filled.exists("models/va/manifest.json")
    assert run(["delete", "models/va", "--yes", "--store", filled.uri]) == 0
    assert "models/both was made from it, and is kept" in capsys.readouterr().out
    assert filled.files("models/va") == []
