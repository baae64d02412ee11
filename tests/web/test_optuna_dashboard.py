"""The real command in a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage

from raffect.store import Store
from raffect.sweep.study import journal_of

RUN = """
import sys
from raffect.store import Store
from tests.web.test_optuna_dashboard import run
run(Store(sys.argv[1]), sys.argv[2], [float(score) for score in sys.argv[3:]])
"""


def run(store: Store, name: str, scores: list[float]) -> None:
    """Finish a trial with each of these scores."""
    study = optuna.create_study(
        storage=JournalStorage(journal_of(store, name)),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )
    for score in scores:
        trial = study.ask()
        trial.suggest_int("model.tcn.depth", 0, 5)
        study.tell(trial, score)


def run_elsewhere(store: Store, name: str, *scores: float) -> None:
    words = [sys.executable, "-c", RUN, store.uri, name, *map(str, scores)]
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class Shown:
    """A dashboard that runs."""

    process: subprocess.Popen[str]
    url: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def scores(self) -> dict[str, list[float]]:
        """Scores of all trials by study, as the page gets them."""
        found = {}
        for study in self.ask("/api/studies")[1]["study_summaries"]:
            detail = self.ask(f"/api/studies/{study['study_id']}")[1]
            found[study["study_name"]] = [trial["values"][0] for trial in detail["trials"]]
        return found

    def interrupt(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=30)


@contextmanager
def dashboard(store: Store, *words: str) -> Iterator[Shown]:
    process = subprocess.Popen(
        [sys.executable, "-m", "raffect", "dashboard", *words, "--store", store.uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("http://127.0.0.1:"), line or process.communicate()[1]
        yield Shown(process, line.removesuffix("/dashboard"))
    finally:
        process.kill()
        process.communicate()


def wait(for_what: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not for_what():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("where", [pytest.param("store", marks=pytest.mark.long), "s3_store"])
def test_all_sweeps_are_shown_live(where: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(where)
    run(store, "va", [0.1, 0.3])
    run(store, "expr", [0.2])
    with dashboard(store, "--port", "0") as shown:
        assert shown.scores() == {"expr": [0.2], "va": [0.1, 0.3]}
        run_elsewhere(store, "va", 0.4, 0.5)
        run_elsewhere(store, "au", 0.6)
        now = {"expr": [0.2], "va": [0.1, 0.3, 0.4, 0.5], "au": [0.6]}
        assert wait(lambda: shown.scores() == now)
        assert [t["number"] for t in shown.ask("/api/studies/1")[1]["trials"]] == [0, 1, 2, 3]
        assert shown.ask("/api/studies/1")[1]["best_trials"][0]["values"] == [0.5]


def test_it_only_shows_and_ends_quietly(store: Store) -> None:
    run(store, "va", [0.1, 0.3])
    before = store.files("")
    with dashboard(store, "va", "--port", "0") as shown:
        # A foreign page's own name, made to point here.
        assert shown.ask("/api/studies", Host="evil.example")[0] == 400
        assert shown.ask("/api/studies", Host="LOCALHOST:1")[0] == 200
        for path, method in (
            ("/api/studies", "POST"),
            ("/api/studies/0", "DELETE"),
            ("/api/studies/0/rename", "POST"),
            ("/api/studies/0/note", "PUT"),
            ("/api/trials/0/tell", "POST"),
        ):
            code, answer = shown.ask(path, method)
            assert code == 403
            assert "only shown here" in answer["reason"]
        assert shown.scores() == {"va": [0.1, 0.3]}
        assert shown.ask("/api/studies/7")[0] == 404
        said, complaints = shown.interrupt()
        assert shown.process.returncode == 0
        assert complaints == ""
        assert said.count("only shown here") == 5
    assert store.files("") == before


@pytest.mark.slow
def test_a_taken_port_is_one_message(store: Store) -> None:
    run(store, "va", [0.1])
    with dashboard(store, "--port", "0") as shown:
        port = shown.url.rpartition(":")[2]
        words = [sys.executable, "-m", "raffect", "dashboard", "--port", port, "--store"]
        done = subprocess.run([*words, store.uri], capture_output=True, text=True)
        assert done.returncode == 2
        assert f"Nothing can listen at 127.0.0.1:{port}" in done.stderr
        assert "Traceback" not in done.stderr
