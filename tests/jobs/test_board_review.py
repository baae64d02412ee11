"""A sweep as Ray's users see it: on a real Ray with its dashboard, and a real Prometheus."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from raffect.jobs.card import glance_of
from raffect.jobs.publish import METRICS
from raffect.store import Store
from raffect.sweep.attributes import STATE_NAMES
from raffect.sweep.leaderboard import SweepView, load_sweep
from raffect.sweep.progress import STATES
from raffect.sweep.records import TOP
from tests.e2e_settings import SMALL_TEMPORAL
from tests.jobs.heads import PROMETHEUS, ROOT, Head, Prometheus, ask, head, prometheus, wait
from tests.jobs.swept_job import TRIALS
from tests.sweep import tiny

BOARD = ROOT / "cluster" / "grafana" / "raffect.json"
DRAWN: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
PANELS = {panel["title"]: panel["targets"][0]["expr"] for panel in DRAWN["panels"]}
SECRET = "planted-secret"
# What one machine has no use for, and waits for.
QUICKER = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}

pytestmark = [pytest.mark.ray, pytest.mark.slow]
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="There is no prometheus: apt-get install prometheus"
)


@dataclass
class Review:
    """What was seen of a sweep that ran as the job `swept`.

    Attributes:
        view: What the sweep found.
        early: The job's metadata while trials ran.
        late: The same after its end.
        log: The job's log.
        actors: The cluster's actors with a name of their own, while trials ran.
        panels: By panel, the series after the last trial had ended; empty without Prometheus.
        variables: By variable of the board, the values to choose from, then.
    """

    view: SweepView
    early: dict[str, str]
    late: dict[str, str]
    log: str
    actors: list[dict[str, Any]]
    panels: dict[str, list[Any]]
    variables: dict[str, set[str]]


@pytest.fixture(scope="module")
def place() -> Iterator[Head]:
    with head(BOARD) as found:
        yield found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny.fill(Store(str(tmp_path_factory.mktemp("review") / "store")))


@pytest.fixture(scope="module")
def review(place: Head, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Review:
    """Run a sweep as a job, and look at it as it goes."""
    if PROMETHEUS is None:
        return look(place, store, None)
    with prometheus(place, tmp_path_factory.mktemp("prometheus")) as found:
        return look(place, store, found)


def look(place: Head, store: Store, metrics: Prometheus | None) -> Review:
    board = {"RAFFECT_BOARD": f"http://me:{SECRET}@127.0.0.1:8266"}
    words = f"tests.jobs.swept_job {shlex.quote(store.uri)} va"
    place.submit("swept", words, board, job_name="tune va")

    def running() -> dict[str, str] | None:
        found = place.told("swept")
        return found if "running" in found.get("trials", "") else None

    def actors() -> list[dict[str, Any]] | None:
        answer = ask(f"{place.dashboard}/api/v0/actors?detail=true&limit=100")
        found = [one for one in answer["data"]["result"]["result"] if one["repr_name"]]
        return found if len(found) > 1 else None

    early, named = wait(running, 90), wait(actors, 90)
    panels, variables = scrape(metrics) if metrics is not None else ({}, {})
    return Review(
        early=early,
        late=place.ended("swept")["metadata"],
        view=load_sweep(store, "va"),
        log=place.log("swept"),
        actors=named,
        panels=panels,
        variables=variables,
    )


def scrape(metrics: Prometheus) -> tuple[dict[str, list[Any]], dict[str, set[str]]]:
    """What a browser would get for the board's panels and variables, all trials having ended."""
    ended = f'sum(ray_raffect_trials{{state!="RUNNING"}}) == {TRIALS}'
    wait(lambda: metrics.query(ended), 90)
    time.sleep(1.5)
    panels = {title: metrics.query(plain(expr)) for title, expr in PANELS.items()}
    variables = {}
    for variable in DRAWN["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert found is not None
            series = metrics.query(f"count by ({found[2]}) ({plain(found[1])})")
            variables[variable["name"]] = {one["metric"].get(found[2], "") for one in series}
    return panels, variables


def plain(expression: str) -> str:
    """A query of the board with all variables at `All`."""
    return re.sub(r"\$\w+", ".*", expression)


def test_the_job_s_metadata_is_current_while_it_runs_and_after_it(
    review: Review, store: Store
) -> None:
    best = review.view.best
    assert best is not None
    assert best.score is not None
    assert re.fullmatch(r"(\d+ [a-z]+, )*[12] running of 10", review.early["trials"])
    counts = [f"{review.view.counts[state]} {STATE_NAMES[state]}" for state in STATES if state in
              review.view.counts]  # fmt: skip
    assert review.late["trials"] == f"{', '.join(counts)} of 10"
    assert review.late["best"] == f"{best.score:.4f} (trial {best.number})"
    for key, value in best.params.items():
        shown = f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
        assert f"{key}={shown}" in review.late["best_params"]
    assert list(review.late)[:2] == ["best", "trials"], "what fits on the line of Ray's page"
    assert review.late["page"] == "http://127.0.0.1:8266/sweeps/va"
    assert review.late["report"] == "http://127.0.0.1:8266/sweeps/va/report"
    assert float(review.late["hours"].partition(",")[0]) >= 0
    name = f"tune va · {review.late['best']} · {TRIALS}/{TRIALS}"
    fixed = {"job_name": name, "store": store.uri, "task": "va", "sweep": "va"}
    assert {key: review.late[key] for key in fixed} == fixed
    assert "raffect" in review.late


def test_who_follows_the_job_sees_the_table_of_its_sweep_while_it_runs(review: Review) -> None:
    glance = glance_of(review.early)
    assert glance is not None
    assert glance.standing.target == TRIALS
    assert 1 <= len(glance.running) <= 2
    assert glance_of(review.late) is None


def test_no_secret_is_shown(review: Review) -> None:
    assert SECRET not in json.dumps([review.early, review.late, review.log])
    assert "Note:" not in review.log


def test_trial_actors_read_as_what_they_are(review: Review) -> None:
    trials = [one for one in review.actors if one["class_name"] == "SweepTrial"]
    names = {one["repr_name"] for one in trials}
    assert len(names) == len(trials) == 2
    assert all(re.fullmatch(r"va sweep va, slot [01]", name) for name in names)


def test_every_metric_is_on_the_board() -> None:
    used = set(re.findall(r"\b(ray_raffect_\w+)", " ".join(PANELS.values())))
    assert used == {f"ray_{name}" for name in METRICS}


@needs_prometheus
def test_every_panel_shows_what_the_sweep_found(review: Review) -> None:
    view = review.view
    scores = sorted((row.score for row in view.rows if row.model and row.score), reverse=True)
    states = {state: float(view.counts.get(state, 0)) for state in STATES}
    found = {
        title: {
            tuple(value for key, value in sorted(one["metric"].items()) if key != "sweep"): float(
                one["value"][1]
            )
            for one in series
        }
        for title, series in review.panels.items()
    }
    assert {one["metric"]["sweep"] for of in review.panels.values() for one in of} == {"va"}
    assert set(found) == set(PANELS)
    assert found["Best score"] == found["Best score over time"] == {(): scores[0]}
    assert found["Top five"] == {(str(i + 1),): score for i, score in enumerate(scores[:TOP])}
    assert found["Trials by state"] == {(state,): count for state, count in states.items()}
    assert found["Trials ended"] == {(): 1.0}
    assert found["Trials asked for"] == {(): TRIALS}
    assert found["Running trials"] == {(): 0.0}
    assert found["Device hours"][()] == pytest.approx(view.device_hours, rel=0.01)
    assert 0 < found["Time of an epoch"][()] < 30
    assert 10 < found["Trials per hour"][()] < 100_000


@needs_prometheus
def test_the_variables_of_the_board_have_values_to_choose_from(review: Review) -> None:
    (session,) = review.variables.pop("SessionName")
    assert session.startswith("session_")
    assert review.variables == {"task": {"va"}, "sweep": {"va"}}


def test_the_board_is_provisioned_beside_ray_s_own(place: Head) -> None:
    provisioning = place.session / "metrics" / "grafana" / "provisioning" / "dashboards"
    wait((provisioning / "default.yml").exists, 30)
    (provider,) = yaml.safe_load((provisioning / "default.yml").read_text())["providers"]
    assert provider["options"]["path"] == str(place.grafana)
    wait((place.grafana / "train_grafana_dashboard.json").exists, 30)
    boards = {path.name: json.loads(path.read_text()) for path in place.grafana.glob("*.json")}
    assert boards.pop(BOARD.name) == DRAWN
    assert len(boards) > 3
    assert DRAWN["uid"] not in {board["uid"] for board in boards.values()}
    rays = {one["name"]: one for one in boards["default_grafana_dashboard.json"]["templating"][
        "list"]}  # fmt: skip
    ours = {one["name"]: one for one in DRAWN["templating"]["list"]}
    for name in ("datasource", "SessionName"):
        assert ours[name]["type"] == rays[name]["type"]
    assert ours["datasource"]["query"] == rays["datasource"]["query"]


@pytest.mark.long
def test_a_job_s_log_ends_with_what_to_do_next_and_its_inner_runs_are_tracked(
    place: Head, store: Store
) -> None:
    """The command itself, with data-parallel trials."""
    settings = shlex.join(SMALL_TEMPORAL)
    place.submit(
        "wide",
        f"raffect tune va --name wide --workers-per-trial 2 --trials 1 --track none {settings}",
        {"RAFFECT_STORE": store.uri, "RAFFECT_JOB": "wide", **QUICKER},
    )
    metadata = place.ended("wide", 180)["metadata"]
    assert metadata["trials"] == "1 complete of 1"
    assert metadata["sweep"] == "wide"
    lines = [line.strip() for line in place.log("wide").splitlines() if line.strip()]
    next_lines = lines[lines.index("Next:") + 1 :]
    verbs = (
        "trials wide", "report wide", "submit -- retrain wide", "submit -- ablate va --base wide",
        "predict sweeps/wide", "submit -- tune va --name",
    )  # fmt: skip
    assert len(next_lines) == len(verbs)
    for verb, line in zip(verbs, next_lines, strict=True):
        assert line.startswith(f"raffect {verb}")
        assert f"--store {store.uri}" in line
    assert any("VA sweep 'wide'" in line for line in lines), "the leaderboard comes before"
    runs = ask(f"{place.dashboard}/api/train/v2/runs/v1")["train_runs"]
    assert [run["status"] for run in runs] == ["FINISHED"]
