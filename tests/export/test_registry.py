"""Pushing and pulling: against a hub in a process of its own, and a registry of MLflow's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from raffect.cli.app import run
from raffect.export.layout import MANIFEST
from raffect.store import Store
from raffect.testing.ports import free_ports
from tests.export import hub_server
from tests.export.made import draw_crops
from tests.export.test_load import predicted
from tests.export.test_write import filled, make  # noqa: F401

TOKEN = "hf_aVerySecretToken"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of commands that use a hub of their own."""
    (port,) = free_ports(1)
    server = subprocess.Popen([sys.executable, hub_server.__file__, str(port), TOKEN])
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(address)
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.05)
    own = {"HF_ENDPOINT": address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
    # The hub's other way to transfer files has a server of its own.
    yield {**os.environ, **own, "HF_HUB_DISABLE_XET": "1"}
    server.terminate()
    server.wait()


def raffect(environment: dict[str, str], *words: str) -> tuple[int, str]:
    """Exit code and all that is printed."""
    command = [sys.executable, "-m", "raffect", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_what_is_pushed_is_pulled_again(hub, filled: Store, tmp_path: Path):  # noqa: F811
    folder, out = make(filled, "other", tmp_path / "made"), tmp_path / "pulled"
    (folder / "notes.txt").write_text("not of the export")
    assert raffect(hub, "push", str(folder), "somebody/model")[0] == 0
    code, said = raffect(hub, "pull", "somebody/model", "--out", str(out))
    assert code == 0, said
    (folder / "notes.txt").unlink()
    assert contents(out) == contents(folder)
    assert said.splitlines()[-1] == f"Next: raffect import {out} --name NAME"


@pytest.mark.long
def test_a_repository_holds_the_last_model_that_was_pushed(
    hub,
    filled: Store,  # noqa: F811
    tmp_path: Path,
):
    both = make(filled, "mine", tmp_path / "both", "folder", "torchscript")
    assert raffect(hub, "push", str(both), "somebody/model")[0] == 0
    store = ("--store", filled.uri)
    assert raffect(hub, "push", "other", "somebody/model", *store)[0] == 0
    out = tmp_path / "pulled"
    assert raffect(hub, "pull", "somebody/model", "--out", str(out))[0] == 0
    alone = make(filled, "other", tmp_path / "alone")
    assert contents(out) == contents(alone)
    code, said = raffect(hub, "pull", "somebody/model", "--out", str(out))
    assert (code, "--overwrite" in said) == (2, True)
    assert raffect(hub, "pull", "somebody/model", "--out", str(out), "--overwrite")[0] == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"HF_TOKEN": "hf_wrong"}, ["push", "DIR", "somebody/new"], "token is refused"),
        ({}, ["push", "DIR", "some body/x"], "no name of a repository"),
        ({}, ["pull", "somebody/absent", "--out", "OUT"], "no such repository"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, ["push", "DIR", "a/b"], "can't be used"),
    ],
)
def test_what_the_hub_refuses_is_one_message(
    hub,
    filled: Store,  # noqa: F811
    tmp_path: Path,
    changes: dict[str, str],
    words: list[str],
    said: str,
):
    places = {"DIR": str(make(filled, "mine", tmp_path / "made")), "OUT": str(tmp_path / "out")}
    code, told = raffect({**hub, **changes}, *(places.get(word, word) for word in words))
    assert code == 2
    assert said in told
    assert "Next: " in told
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_what_others_pushed_is_refused_whole(hub, filled: Store, tmp_path: Path):  # noqa: F811
    """A repository that is no export, and one of which a file was changed there."""
    folder = make(filled, "mine", tmp_path / "made")
    program = (
        "import sys, huggingface_hub; a = huggingface_hub.HfApi()\n"
        "a.create_repo(sys.argv[1], exist_ok=True)\n"
        "a.upload_file(path_or_fileobj=b'x', path_in_repo=sys.argv[2], repo_id=sys.argv[1])"
    )

    def upload(repository: str, file: str) -> None:
        subprocess.run([sys.executable, "-c", program, repository, file], env=hub, check=True)

    upload("somebody/other", "notes.txt")
    code, said = raffect(hub, "push", str(folder), "somebody/other")
    assert (code, "holds files" in said) == (2, True)
    code, said = raffect(hub, "pull", "somebody/other", "--out", str(tmp_path / "out"))
    assert (code, f"holds no {MANIFEST}" in said) == (2, True)
    assert raffect(hub, "push", str(folder), "somebody/model")[0] == 0
    upload("somebody/model", "model.safetensors")
    code, said = raffect(hub, "pull", "somebody/model", "--out", str(tmp_path / "out"))
    assert (code, "model.safetensors has 1 bytes" in said) == (2, True)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.long
def test_mlflows_registry_holds_versions(
    filled: Store,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = make(filled, "mine", tmp_path / "first")
    store = ("--store", filled.uri)
    assert run(["push", str(first), "faces", "--mlflow", uri]) == 0
    assert run(["push", "other", "faces", "--mlflow", uri, *store]) == 0
    assert "models:/faces/2 holds it." in capsys.readouterr().out
    for name, model in (("faces/1", "mine"), ("faces", "other")):
        out = tmp_path / f"pulled-{model}"
        assert run(["pull", name, "--out", str(out), "--mlflow", uri]) == 0
        assert run(["import", str(out), "--name", f"back-{model}", *store]) == 0
    crops = draw_crops(tmp_path / "someone", range(1, 20))
    for model in ("mine", "other"):
        found = [
            predicted(filled, each, crops, tmp_path / "x.csv") for each in (model, f"back-{model}")
        ]
        assert found[0] == found[1]
    capsys.readouterr()
    assert run(["pull", "faces/9", "--out", "x", "--mlflow", uri]) == 2
    assert "versions of faces: 1, 2" in capsys.readouterr().err
