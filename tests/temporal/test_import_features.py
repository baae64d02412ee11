"""Features of others: what fits the dataset is imported as `extract` would store it."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raffect.affwild2.labels import labels_file, to_parquet
from raffect.affwild2.tasks import Task
from raffect.check import unfinished
from raffect.cli.app import run
from raffect.context import Context
from raffect.errors import ConflictError, DataError, NotThereError, SettingsError
from raffect.predict.files import predict_to_file
from raffect.store import Store, read_manifest
from raffect.store.raw import RawFolder
from raffect.store.stage import Stage
from raffect.temporal import import_features as module
from raffect.temporal.data import load_task_data, sets_of
from raffect.temporal.import_features import Length, import_features, read_lengths
from raffect.temporal.rows import read_features
from raffect.temporal.train import train
from tests.clip.clip_data import FRAMES, make_dataset
from tests.temporal.builders import DIM, small_config, small_videos

VIDEOS = [f"v{i:02d}" for i in range(12)]
Files = dict[str, Any]


def values(video: str, rows: int = FRAMES, dim: int = 6, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(int(video[1:])).normal(size=(rows, dim)).astype(dtype)


def good(dtype: str = "float32") -> Files:
    """A file per video, of all its frames."""
    return {f"{video}.npy": values(video, dtype=dtype) for video in VIDEOS}


def write(folder: Path, files: Files) -> RawFolder:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            np.save(folder / name, content, allow_pickle=True)
    return RawFolder.of(folder, "DIR")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a dataset of 20 frames each: frame 7 has no crop, annotations have a line
    more, and v11 has crops alone."""
    store = Store(str(tmp_path_factory.mktemp("dataset")))
    make_dataset(store)
    for task in (Task.VA, Task.AU):
        store.write_bytes(f"dataset/{labels_file(task)}", to_parquet(task, {}))
    return {key: store.read_bytes(key) for key in store.files("dataset")}


@pytest.fixture
def dataset(store: Store, prepared: dict[str, bytes]) -> Store:
    for key, data in prepared.items():
        store.write_bytes(key, data)
    return store


def test_lengths_are_those_of_crops_and_lines(dataset: Store):
    lengths = read_lengths(dataset)
    assert set(lengths) == set(VIDEOS)
    assert lengths["v00"] == Length(FRAMES, FRAMES + 2)
    assert lengths["v11"] == Length(FRAMES, FRAMES + 1)


def test_without_crops_the_lines_count(small_store: Store):
    lengths = read_lengths(small_store)
    assert lengths["train-0"] == Length(90, 92)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_rows_are_stored_as_they_were(dataset: Store, tmp_path: Path, dtype: str):
    files = good(dtype)
    files["v01.npy"] = np.asfortranarray(files["v01.npy"])
    manifest = import_features(dataset, write(tmp_path / "own", files), "own")
    stored = "float16" if dtype == "float16" else "float32"
    assert manifest.counts == {"rows": 240, "dim": 6, "videos": 12}
    assert manifest.config["dtype"] == stored
    assert manifest.sources == {"dataset": read_manifest(dataset, "dataset").digest()}
    rows = read_features(dataset, "own", VIDEOS)
    assert rows.values.dtype == stored
    for video in VIDEOS:
        frames, index = rows.crops[video]
        assert frames.tolist() == list(range(1, FRAMES + 1))
        np.testing.assert_array_equal(rows.values[index], files[f"{video}.npy"].astype(stored))


def test_one_file_of_float32_makes_all_of_them_so(dataset: Store, tmp_path: Path):
    files = good("float16") | {"v03.npy": values("v03") * 1e6}
    import_features(dataset, write(tmp_path / "own", files), "own")
    rows = read_features(dataset, "own", ["v03"])
    np.testing.assert_array_equal(rows.values, files["v03.npy"])


def test_frames_may_be_left_out_where_they_are_numbered(dataset: Store, tmp_path: Path):
    kept = np.array([2, 3, 9, FRAMES + 2], np.uint16)
    files = good() | {"v02.npy": values("v02", 4), "v02.frames.npy": kept, "readme.txt": b"x"}
    import_features(dataset, write(tmp_path / "own", files), "own")
    assert read_features(dataset, "own", ["v02"]).crops["v02"][0].tolist() == kept.tolist()


def test_videos_without_a_file_are_told_and_missing(dataset: Store, tmp_path: Path):
    files = {name: of for name, of in good().items() if name not in ("v03.npy", "v05.npy")}
    notes: list[str] = []
    folder = write(tmp_path / "own", files)
    manifest = import_features(dataset, folder, "own", Context(on_note=notes.append))
    assert notes == [
        "2 of the dataset's 12 videos have no features here, v03 the first: they count as missing."
    ]
    assert manifest.notes == {"without": ["v03", "v05"]}


def nan_at(frame: int) -> np.ndarray:
    wrong = values("v04")
    wrong[frame - 1, 2] = np.nan
    return wrong


def npy(content: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, content)
    return stream.getvalue()


FAULTS: dict[str, tuple[Files, str]] = {
    "unknown": ({"x.npy": values("v01"), "y.npy": values("v01")}, "2 are not in the dataset: x "),
    "long": ({"v04.npy": values("v04", 23)}, "1 have rows beyond the last frame: v04 .*frame 23;"),
    "short": ({"v04.npy": values("v04", 19)}, "v04 the first, frame 20 has none of 20"),
    "wide": ({"v04.npy": values("v04", dim=7)}, "1 have another number .*v04 .*, 7; 11 have 6"),
    # NumPy takes it for Python 2's and reads it by Python's tokenizer, whose error is its own.
    "header": (
        {"v04.npy": npy(values("v04")).replace(b"(20, 6)", b"((20,6)")},
        "v04 .*TokenError",
    ),
    "nan": ({"v04.npy": nan_at(17)}, r"not finite .*: v04 the first, at frame 17"),
    "inf": ({"v04.npy": values("v04", dtype="float64") * 1e300}, "beyond float32.*at frame 1"),
    "empty": ({"v04.npy": np.empty((0, 6), np.float32)}, r"1 are empty: v04 the first, \(0, 6\)"),
    "no width": ({"v04.npy": np.empty((20, 0), np.float32)}, "1 are empty: v04"),
    "flat": ({"v04.npy": values("v04")[0]}, r"other arrays: v04 the first, float32 \(6,\)"),
    "integers": ({"v04.npy": np.ones((20, 6), int)}, "other arrays: v04 the first, int64"),
    "objects": ({"v04.npy": np.full((20, 6), None)}, "no whole array of numbers: v04 .* object"),
    "cut": ({"v04.npy": npy(values("v04"))[:-5]}, "no whole array of numbers: v04 .*475 B for"),
    "text": ({"v04.npy": b"no array"}, r"1 are no \.npy: v04"),
    "nothing": ({"v04.npy": b""}, r"1 are no \.npy: v04"),
    "a huge header": (
        {"v04.npy": npy(values("v04")).replace(b"(20, 6), }" + 9 * b" ", b"(20, 6000000000), }")},
        r"no whole array of numbers: v04 .*6000000000",
    ),
    "frame 0": (
        {"v04.frames.npy": np.arange(20)},
        "ascend from 1: v04 the first, frame 0 in row 1",
    ),
    "twice": (
        {"v04.frames.npy": np.array([*range(1, 20), 19])},
        "ascend from 1: v04 the first, frame 19 in row 20",
    ),
    "beyond": ({"v04.frames.npy": np.arange(20) + 5}, "beyond the last frame: v04 .*frame 24;"),
    "far beyond": (
        {"v04.frames.npy": np.array([*range(1, 20), 2**63], np.uint64)},
        "beyond the last frame: v04",
    ),
    "few frames": ({"v04.frames.npy": np.arange(1, 20)}, r"integer per row: v04 .*\(19,\) for 20"),
    "half frames": ({"v04.frames.npy": np.arange(1, 21) + 0.5}, "integer per row: v04"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_refused(dataset: Store, tmp_path: Path, name: str):
    files, message = FAULTS[name]
    folder = write(tmp_path / "own", good() | files)
    with pytest.raises(DataError, match=message) as caught:
        import_features(dataset, folder, "own")
    assert str(folder.typed) in str(caught.value)
    assert "VIDEO.frames.npy" in str(caught.value)
    assert not dataset.files("features")


def test_all_faults_are_told_at_once(dataset: Store, tmp_path: Path):
    files = good() | {"v02.npy": values("v02", 5), "v04.npy": nan_at(3), "v05.npy": nan_at(9)}
    with pytest.raises(DataError) as caught:
        import_features(dataset, write(tmp_path / "own", files | {"w.npy": b""}), "own")
    assert str(caught.value).splitlines()[:4] == [
        f"4 of 13 videos in {tmp_path / 'own'} can't be imported:",
        "  2 have values that are not finite (inf, NaN, or beyond float32): v04 the first, at"
        " frame 3",
        "  1 have fewer rows than frames: v02 the first, frame 6 has none of 20",
        "  1 are not in the dataset: w the first, no annotation and no crop has this name",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds no VIDEO\.npy; it holds 0 other"),
        ({"._v01.npy": b"", "v01.pt": b""}, r"holds no VIDEO\.npy; it holds 1 other"),
        ({"v01.npy": b"", "v2.frames.npy": b""}, "1 files of frames .*, v2.frames.npy the first"),
    ],
)
def test_a_folder_of_something_else(dataset: Store, tmp_path: Path, files: Files, message: str):
    with pytest.raises(DataError, match=message):
        import_features(dataset, write(tmp_path / "own", files), "own")
    with pytest.raises(NotThereError, match="does not exist"):
        import_features(dataset, RawFolder.of(tmp_path / "none", "DIR"), "own")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two videos of 480 bytes each in a file."""
    monkeypatch.setattr(module, "SHARD_BYTES", 960)


def test_an_interrupted_import_keeps_what_it_wrote(
    dataset: Store, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
):
    folder = write(tmp_path / "own", good())
    whole = import_features(dataset, folder, "whole")
    assert [entry.name for entry in whole.files] == [f"{i:05d}.parquet" for i in range(6)]

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 12 + 6:
            raise StopError

    with pytest.raises(StopError):
        import_features(dataset, folder, "own", Context(progress=stop))
    with pytest.raises(NotThereError):
        read_manifest(dataset, "features/own")
    written: list[str] = []
    plain = Stage.write_part

    def note(self: Stage, name: str, *rest: Any) -> Any:
        written.append(name)
        return plain(self, name, *rest)

    monkeypatch.setattr(Stage, "write_part", note)
    again = import_features(dataset, folder, "own")
    assert written == [f"{i:05d}.parquet" for i in (3, 4, 5)]
    assert (again.files, again.counts) == (whole.files, whole.counts)
    assert import_features(dataset, folder, "own") == again
    assert len(written) == 3


def test_another_input_under_the_same_name_is_noticed(dataset: Store, tmp_path: Path):
    files = good()
    import_features(dataset, write(tmp_path / "own", files), "own")
    files["v07.npy"] = files["v07.npy"] + 1
    folder = write(tmp_path / "own", files)
    with pytest.raises(ConflictError, match="imported: "):
        import_features(dataset, folder, "own")
    import_features(dataset, folder, "own", Context(overwrite=True))
    np.testing.assert_array_equal(read_features(dataset, "own", ["v07"]).values, files["v07.npy"])


def test_a_file_that_changes_meanwhile_is_noticed(dataset: Store, tmp_path: Path):
    folder = write(tmp_path / "own", good())

    def change(done: int, total: int) -> None:
        if done == 12:
            (tmp_path / "own" / "v00.npy").unlink()

    with pytest.raises(DataError, match=r"v00\.npy was changed"):
        import_features(dataset, folder, "own", Context(progress=change))


def test_the_folder_is_never_in_memory_as_a_whole(
    dataset: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wide = {f"{video}.npy": values(video, dim=20_000) for video in VIDEOS}
    size = wide["v00.npy"].nbytes
    folder = write(tmp_path / "own", wide)
    del wide
    monkeypatch.setattr(module, "SHARD_BYTES", size)
    tracemalloc.start()
    try:
        import_features(dataset, folder, "own")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * size


def test_a_bucket_is_a_folder_too(dataset: Store, s3_store: Store):
    for name, content in good().items():
        s3_store.write_bytes(f"own/{name}", npy(content))
    import_features(dataset, RawFolder.of(f"{s3_store.uri}/own", "DIR"), "own")
    rows = read_features(dataset, "own", ["v09"])
    np.testing.assert_array_equal(rows.values, values("v09"))


def exported(store: Store, folder: Path) -> RawFolder:
    """The features `clip` of the small store as files."""
    rows = read_features(store, "clip", [video.name for video in small_videos()])
    files: Files = {}
    for video, (frames, index) in rows.crops.items():
        files |= {f"{video}.npy": rows.values[index], f"{video}.frames.npy": frames}
    return write(folder, files)


def test_what_was_extracted_and_is_imported_trains_the_same_model(
    small_store: Store, tmp_path: Path
):
    import_features(small_store, exported(small_store, tmp_path / "own"), "own")
    one, other = (load_task_data(small_store, of, Task.VA) for of in ("clip", "own"))
    np.testing.assert_array_equal(one.features[one.train.row], other.features[other.train.row])
    config = small_config(Task.VA, optimiser__epochs=2)
    for name in ("clip", "own"):
        train(small_store, config, name, name)
    weights = [small_store.read_bytes(f"models/{of}/model.safetensors") for of in ("clip", "own")]
    assert weights[0] == weights[1]


def test_a_model_of_imported_features_predicts_no_folder_of_crops(
    small_store: Store, tmp_path: Path
):
    import_features(small_store, exported(small_store, tmp_path / "own"), "own")
    train(small_store, small_config(Task.VA, optimiser__epochs=1), ["clip", "own"], "m")
    data = load_task_data(small_store, ["clip", "own"], Task.VA)
    assert [each.encoder for each in sets_of(data.lineage)] == ["clip", None]
    out = tmp_path / "m.csv"
    with pytest.raises(SettingsError, match=r"imported features \(own\)"):
        predict_to_file(small_store, "m", out, frames=tmp_path)
    assert predict_to_file(small_store, "m", out, split="validation").frames > 100


def test_the_command_imports_and_lists(
    small_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = exported(small_store, tmp_path / "own").typed
    where = ["--store", small_store.uri]
    assert run(["features", "import", folder, "--name", "own", *where]) == 0
    assert "features/own is ready." in capsys.readouterr().out
    assert run(["features", "--json", *where]) == 0
    rows = int(read_manifest(small_store, "features/clip").counts["rows"])
    about = {"rows": rows, "dim": DIM, "dtype": "float16"}
    assert json.loads(capsys.readouterr().out) == [
        {"name": "clip", **about, "encoder": "clip", "finished": True},
        {"name": "own", **about, "encoder": None, "finished": True},
    ]
    assert run(["features", *where]) == 0
    assert "imported" in capsys.readouterr().out
    small_store.delete("features/own/manifest.json")
    assert run(["features", "--json", *where]) == 0
    told = {each["name"]: each["finished"] for each in json.loads(capsys.readouterr().out)}
    assert told == {"clip": True, "own": False}
    assert run(["features", *where]) == 0
    assert "unfinished" in capsys.readouterr().out
    assert unfinished(small_store) == ["features/own"]
    assert run(["features", "import", folder, "--name", "own", *where]) == 0
    capsys.readouterr()
    assert run(["features", "import", str(tmp_path / "no"), "--name", "x", *where]) == 2
