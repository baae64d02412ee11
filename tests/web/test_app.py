"""raffect's own page, as the real command serves it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html import escape

import pytest

from raffect.affwild2.tasks import Task
from raffect.store import Stage, Store
from raffect.sweep.leaderboard import load_sweep
from raffect.web.app import _render
from raffect.web.live import LiveSweep
from raffect.web.view import SweepPage
from tests.jobs.studies import Sweep
from tests.report.views import view
from tests.sweep.test_evidence import leave
from tests.web.pages import Page, page

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two sweeps that nobody is at, one that was only planned, and what is no sweep."""
    store = Store(str(tmp_path_factory.mktemp("page") / "store"))
    va = Sweep(store, "va", trials=6)
    va.complete(0.1, 0.3, 0.25)
    va.complete(0.2, 0.4123)
    va.fail(f"nan: {EVIL}")
    va.begin(0.15)
    Sweep(store, "expr-wide", task=Task.EXPR).complete(0.2)
    Stage(store, "sweeps/planned", "sweep", {"task": "va", "base": {}}, {})
    store.write_bytes("sweeps/..hidden/plan.json", b"{}")
    store.write_bytes("sweeps/no name/plan.json", b"{}")
    return store


@pytest.fixture(scope="module")
def shown(swept: Store) -> Iterator[Page]:
    with page(swept) as found:
        yield found


def wait(for_what: Callable[[], bool], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not for_what() and time.monotonic() < until:
        time.sleep(0.2)
    return for_what()


def test_all_sweeps_are_listed(shown: Page) -> None:
    answer = shown.ask("/")
    assert answer.status == 200
    for text in ("Expressions", "Valence and arousal", "0.4123", "3 of 6", "being written"):
        assert text in answer.text
    assert 'href="/sweeps/expr-wide"' in answer.text
    assert "no name" not in answer.text
    found = {one["name"]: one for one in shown.ask("/api/sweeps").json()}
    assert set(found) == {"va", "expr-wide", "planned"}
    assert found["va"]["trials"] == {"COMPLETE": 2, "FAIL": 1, "RUNNING": 1}
    assert (found["va"]["status"], found["va"]["target"]) == ("stopped", 6)
    assert found["va"]["best"] == 0.4123
    assert found["planned"]["status"] == "writing"


def test_a_sweep_s_leaderboard_curve_and_failures_are_shown(shown: Page, swept: Store) -> None:
    answer = shown.ask("/sweeps/va")
    assert answer.status == 200
    for text in ("0.4123", "0.3000", "trials are missing", "optimiser.lr", "1 failed"):
        assert text in answer.text
    assert answer.text.count('class="mark complete"') == 1
    assert escape(EVIL) in answer.text
    assert EVIL not in answer.text
    api = shown.ask("/api/sweeps/va").json()
    assert api["failures"] == {"nan": 1}
    view = load_sweep(swept, "va")
    assert [row["number"] for row in api["leaderboard"]] == [row.number for row in view.rows]
    assert api["leaderboard"][0]["score"] == 0.4123
    # Its trials kept no sums.
    assert (api["expected"], api["leaderboard"][0]["interval"]) == (None, None)
    assert "No intervals: the best trial kept no sums per video" in answer.text


def test_nothing_that_was_not_changed_is_sent_again(shown: Page) -> None:
    whole = shown.ask("/sweeps/va")
    part = shown.ask("/sweeps/va?part=live")
    assert "<html" in whole.text
    assert "<html" not in part.text
    assert part.text.strip() in whole.text
    for path, answer in (("/sweeps/va", whole), ("/sweeps/va?part=live", part)):
        again = shown.ask(path, If_None_Match=answer.headers["etag"])
        assert (again.status, again.text) == (304, "")
    assert shown.ask("/sweeps/va", If_None_Match=part.headers["etag"]).status == 200


def test_the_report_is_made_on_demand_and_kept(shown: Page, swept: Store) -> None:
    before = swept.files("")
    first = shown.ask("/sweeps/va/report")
    assert first.status == 200
    assert "Leaderboard" in first.text
    assert "0.4123" in first.text
    assert shown.ask("/sweeps/va/report").text == first.text, "it says when it was written"
    assert swept.files("") == before, "nothing is written into the store"


def test_a_page_may_load_nothing_from_elsewhere(shown: Page) -> None:
    answer = shown.ask("/sweeps/va")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in answer.text
    assert "http" not in answer.text.replace("http-equiv", "")
    assert (
        "default-src 'none'" in shown.ask("/sweeps/va/report").headers["content-security-policy"]
    )
    for path, kind in (("/board.css", "text/css"), ("/board.js", "text/javascript")):
        asset = shown.ask(path)
        assert asset.headers["content-type"].startswith(kind)
        assert asset.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/sweeps/none",
        "/sweeps/..",
        "/sweeps/%2e%2e",
        "/sweeps/..%2f..%2fdataset",
        "/sweeps/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/sweeps/no%20name",
        "/sweeps/va/study",
        "/sweeps/va%00",
        "/board.css/../../../pyproject.toml",
        "/api/sweeps/none",
        "/api/sweeps/..",
    ],
)
def test_only_sweeps_are_shown(shown: Page, path: str) -> None:
    answer = shown.ask(path)
    assert answer.status == 404
    assert "passwd" not in answer.text.replace(path, "")
    if path.startswith("/api"):
        assert "error" in answer.json()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/sweeps/va", "/sweeps/va/report", "/api/sweeps/va"])
def test_it_can_only_be_looked_at(shown: Page, method: str, path: str) -> None:
    assert shown.ask(path, method).status == 405


def test_a_foreign_name_that_points_here_is_refused(shown: Page) -> None:
    for host in ("evil.example", f"evil.example:{shown.port}", "127.0.0.1.evil.example", ""):
        answer = shown.ask("/api/sweeps", Host=host)
        assert answer.status == 400
        assert "va" not in answer.text.split()
    for host in (f"localhost:{shown.port}", "127.0.0.1"):
        assert shown.ask("/api/sweeps", Host=host).status == 200


def test_what_is_being_written_is_said_and_not_an_error(shown: Page) -> None:
    for path in ("/sweeps/planned", "/sweeps/planned?part=live", "/sweeps/planned/report"):
        answer = shown.ask(path)
        assert answer.status == 200
        assert "being written" in answer.text
    api = shown.ask("/api/sweeps/planned")
    assert (api.status, api.headers["retry-after"]) == (503, "2")


@pytest.mark.slow
def test_a_sweep_is_followed_from_its_plan_to_its_deletion(store: Store) -> None:
    with page(store) as shown:
        assert "No sweeps yet" in shown.ask("/").text
        sweep = Sweep(store, "new", trials=3)
        lease = sweep.lease(job="raffect-va-1")
        sweep.begin(0.2)
        first = shown.ask("/sweeps/new").text
        assert "job raffect-va-1" in first
        assert "Running now" in first
        sweep.complete(0.7654)
        lease.release()
        assert wait(lambda: "0.7654" in shown.ask("/sweeps/new").text)
        assert "Running now" not in shown.ask("/sweeps/new").text
        store.delete("sweeps/new")
        assert wait(lambda: shown.ask("/sweeps/new").status == 404)


@pytest.mark.slow
def test_a_taken_port_is_one_message(shown: Page, swept: Store) -> None:
    words = ["board", "--store", swept.uri, "--port", str(shown.port)]
    done = subprocess.run(
        [sys.executable, "-m", "raffect", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert f"Nothing can listen at 127.0.0.1:{shown.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_who_listens_for_everybody_is_warned_and_it_ends_quietly(swept: Store) -> None:
    with page(swept, "--host", "0.0.0.0") as shown:
        assert "Unauthenticated access" in shown.warned
        assert shown.ask("/api/sweeps", Host="head.example:8266").status == 200
        said, complaints = shown.interrupt()
        assert (shown.process.returncode, said, complaints) == (0, "", "")


def test_how_sure_the_scores_are_is_shown(store: Store) -> None:
    rows, _ = leave(store)
    made = view(rows, store=store, linear_floor={"score": 0.6, "parts": {}, "half_width": 15})
    live = LiveSweep("s", made, "finished")
    sweep = SweepPage(live, made, "store")
    text = _render("sweep.html", title="s", live=live, sweep=sweep, store="store", whole=True)
    evidence = made.evidence
    assert (
        f'Expected on new videos</span><span class="tile-value">{evidence.expected:.4f}<' in text
    )
    for number, known in evidence.trials.items():
        low, high = known.interval
        assert f"{low:.3f}–{high:.3f}" in text, number
    assert made.expectation.partition(";")[0] in text
    assert text.count("below the floor") == sum((row.score or 0) < 0.6 for row in rows)
