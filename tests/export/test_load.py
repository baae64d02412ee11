"""Importing exported folders: the same numbers, and nothing of what is damaged or hostile."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from raffect.cli.app import run
from raffect.clip.encoder import build_encoder, load_encoder
from raffect.config import EncoderConfig
from raffect.errors import ConflictError, DataError, RaffectError
from raffect.export.layout import CONFIG, MANIFEST, ExportManifest, read_export
from raffect.export.load import import_model
from raffect.predict.files import predict_to_file
from raffect.store import FileEntry, Store
from raffect.store.manifest import read_manifest
from raffect.temporal.ensemble import load_ensemble
from raffect.temporal.ensembling import make_ensemble
from raffect.temporal.train import train
from tests.clip.clip_data import to_bytes
from tests.export.made import draw_crops
from tests.export.test_write import filled, make  # noqa: F401
from tests.predict.test_files import fill_with_encoder, write_made
from tests.sweep import tiny
from tests.temporal.builders import rewrite


def predicted(store: Store, name: str, crops: Path, out: Path) -> str:
    predict_to_file(store, name, out, frames=crops)
    return out.read_text()


def sign(folder: Path) -> None:
    """A manifest of what lies there now, as somebody has who changes an export on purpose."""
    before = ExportManifest(**json.loads((folder / MANIFEST).read_text()))
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST]
    files = tuple(FileEntry.of(name, (folder / name).read_bytes()) for name in names)
    after = before.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(json.dumps(after.canonical()))


def test_an_imported_model_predicts_the_very_same(filled: Store, tmp_path: Path):  # noqa: F811
    crops = draw_crops(tmp_path / "someone", [2, *range(6, 50)])
    folder = make(filled, "other", tmp_path / "made")
    elsewhere = Store(str(tmp_path / "elsewhere"))
    found = import_model(elsewhere, folder, "back")
    assert found.encoders == {"clip": "clip"}
    wanted = predicted(filled, "other", crops, tmp_path / "a.csv")
    assert predicted(elsewhere, "back", crops, tmp_path / "b.csv") == wanted
    again = import_model(elsewhere, folder, "back")
    assert again.manifest == found.manifest
    # Where the encoder is, it is taken; the features are there, too.
    import_model(filled, folder, "back")
    assert predicted(filled, "back", crops, tmp_path / "c.csv") == wanted
    for name in ("other", "back"):
        predict_to_file(filled, name, tmp_path / f"{name}.csv", split="validation")
    assert (tmp_path / "other.csv").read_text() == (tmp_path / "back.csv").read_text()
    # An export of the import is the same model.
    second = make(elsewhere, "back", tmp_path / "second")
    assert (second / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    import_model(Store(str(tmp_path / "third")), second, "back")
    third = Store(str(tmp_path / "third"))
    assert predicted(third, "back", crops, tmp_path / "d.csv") == wanted


def test_an_ensemble_of_several_sets_comes_back(filled: Store, tmp_path: Path):  # noqa: F811
    settings = {"layer": "penultimate", "dtype": "float32"}
    write_made(filled, "deep", 256, **settings)
    fitted = {"model__input": "zscore"}
    train(filled, tiny.base(optimiser__epochs=1, **fitted), ["clip", "deep"], "both")
    make_ensemble(filled, "pair", [(n, f"models/{n}") for n in ("mine", "both")], "mean")
    crops = draw_crops(tmp_path / "someone", range(1, 40))
    folder = make(filled, "pair", tmp_path / "made")
    elsewhere = Store(str(tmp_path / "elsewhere"))
    import_model(elsewhere, folder, "back")
    assert read_manifest(elsewhere, "models/back").kind == "ensemble"
    wanted = predicted(filled, "pair", crops, tmp_path / "a.csv")
    assert predicted(elsewhere, "back", crops, tmp_path / "b.csv") == wanted


def test_another_encoder_of_that_name_is_told(filled: Store, tmp_path: Path):  # noqa: F811
    crops = draw_crops(tmp_path / "someone", range(1, 30))
    folder = make(filled, "mine", tmp_path / "made")
    elsewhere = fill_with_encoder(Store(str(tmp_path / "elsewhere")))
    other = build_encoder(EncoderConfig(model="raffect-tiny", pretrained=None), seed=1)
    rewrite(elsewhere, "encoders/clip", "encoder.safetensors", to_bytes(other))
    with pytest.raises(ConflictError, match="another encoder") as told:
        import_model(elsewhere, folder, "back")
    assert "--encoder-name" in str(told.value)
    assert "back" not in elsewhere.names("models")
    import_model(elsewhere, folder, "back", "theirs")
    wanted = predicted(filled, "mine", crops, tmp_path / "a.csv")
    assert predicted(elsewhere, "back", crops, tmp_path / "b.csv") == wanted
    with pytest.raises(ConflictError, match="other settings"):
        import_model(elsewhere, make(filled, "other", tmp_path / "second"), "back", "theirs")


def test_each_file_is_verified(filled: Store, tmp_path: Path):  # noqa: F811
    folder = make(filled, "mine", tmp_path / "made")
    elsewhere = Store(str(tmp_path / "elsewhere"))
    for entry in read_export(folder).manifest.files:
        path = folder / entry.name
        data = path.read_bytes()
        for damage in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), None):
            path.unlink()
            if damage is not None:
                path.write_bytes(damage)
            with pytest.raises(DataError, match="not as `raffect export` wrote it"):
                import_model(elsewhere, folder, "back")
        path.symlink_to("/etc/hostname")
        with pytest.raises(DataError, match="is missing"):
            import_model(elsewhere, folder, "back")
        path.unlink()
        path.write_bytes(data)
    assert not elsewhere.names("models") + elsewhere.names("encoders")
    import_model(elsewhere, folder, "back")


class Runs:
    """Unpickled it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.safetensors", "encoder.safetensors"])
def test_nothing_is_unpickled(filled: Store, tmp_path: Path, name: str):  # noqa: F811
    folder, ran = make(filled, "mine", tmp_path / "made"), tmp_path / "ran"
    data = io.BytesIO()
    torch.save(Runs(ran), data)
    (folder / name).write_bytes(data.getvalue())
    sign(folder)
    with pytest.raises(DataError, match="no safetensors"):
        import_model(Store(str(tmp_path / "elsewhere")), folder, "back")
    assert not ran.exists()


def test_weights_of_another_shape_or_without_values_are_refused(
    filled: Store,  # noqa: F811
    tmp_path: Path,
):
    folder = make(filled, "mine", tmp_path / "made")
    path = folder / "model.safetensors"
    weights = load_file(path)
    key = next(iter(weights))
    for changed in (
        {**weights, key: weights[key].flatten()[:1]},
        {**weights, "more": torch.zeros(1)},
        {k: v for k, v in weights.items() if k != key},
        {**weights, key: weights[key] * float("nan")},
    ):
        save_file({k: v.contiguous() for k, v in changed.items()}, path)
        sign(folder)
        with pytest.raises(DataError, match="can't be imported"):
            import_model(Store(str(tmp_path / "elsewhere")), folder, "back")


def _leaves(tree: Any, path: tuple = ()) -> list[tuple]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = [path] if path else []
    for key, value in pairs:
        below = (*path, key)
        found += _leaves(value, below) if isinstance(value, dict | list) else [below]
    return found


ODD = st.sampled_from(
    [None, True, -1, 0, 10**12, 1.5, "", "../x", "/etc", "x" * 999, [], {}, [1], {"a": 1}]
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_hostile_descriptions_are_refused_or_harmless(
    filled: Store,  # noqa: F811
    tmp_path: Path,
    data: st.DataObject,
):
    """Any value of the JSON may be anything: a user's error, or a model that can be loaded."""
    source = tmp_path / "made"
    if not source.exists():
        make(filled, "other", source)
    folder = tmp_path / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    name = data.draw(st.sampled_from([CONFIG, CONFIG, "preprocessing.json", "postprocess.json"]))
    tree = json.loads((folder / name).read_text())
    path = data.draw(st.sampled_from(_leaves(tree)))
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = data.draw(ODD)
    (folder / name).write_text(json.dumps(tree))
    sign(folder)
    elsewhere = Store(str(tmp_path / "elsewhere"))
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    try:
        import_model(elsewhere, folder, "back")
    except RaffectError:
        return
    load_ensemble(elsewhere, "models/back")
    load_encoder(elsewhere, "clip")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", "[" * 100_000, '{"a": NaN}', "\0", "\xff"]
)
def test_what_is_no_export_is_one_message(tmp_path: Path, text: str):
    folder = tmp_path / "made"
    folder.mkdir()
    for name in (MANIFEST, CONFIG):
        (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"no folder of|not what this raffect exports"):
        read_export(folder)
    with pytest.raises(DataError, match="no such file"):
        read_export(tmp_path)


def test_graphs_alone_can_not_be_imported(filled: Store, tmp_path: Path):  # noqa: F811
    folder = make(filled, "mine", tmp_path / "made", "torchscript")
    with pytest.raises(DataError, match="torchscript") as told:
        import_model(filled, folder, "back")
    assert "--format folder" in str(told.value)


def test_the_commands_lead_to_one_another(
    filled: Store,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    out, where = str(tmp_path / "made"), str(tmp_path / "elsewhere")
    assert run(["export", "mine", "--out", out, "--store", filled.uri, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["formats"] == ["folder"]
    assert run(["import", out, "--name", "back", "--store", where]) == 0
    last = capsys.readouterr().out.splitlines()[-1].removeprefix("Next: raffect ")
    crops = draw_crops(tmp_path / "someone", range(1, 9))
    words = last.replace("CROPS", str(crops)).replace("OUT.csv", str(tmp_path / "x.csv"))
    assert run(words.split()) == 0
    assert (tmp_path / "x.csv").exists()
    assert run(["import", out, "--name", "a/b", "--store", where]) == 2
    assert "can't be a name" in capsys.readouterr().err
    other = str(tmp_path / "other")
    assert run(["import", out, "--store", other]) == 0
    assert list(Store(other).names("models")) == ["mine"]
    capsys.readouterr()
    assert run(["check", "--store", other, "--json"]) == 0
    assert "models/mine" in json.loads(capsys.readouterr().out)["folders"]
