from __future__ import annotations

import json

import pytest

from raffect import __version__
from raffect.errors import SettingsError
from raffect.jobs.submission import make_submission, parse_variables
from raffect.store import Store

COMMAND = ["tune", "va", "--name", "my sweep", "--trials", "5"]
FACTS = {"command": "tune", "task": "va", "sweep": "my sweep"}


def test_a_submission_says_what_it_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    submission = make_submission(COMMAND, FACTS, "s3://bucket/store", {"OMP_NUM_THREADS": "2"})
    assert submission.id.startswith("raffect-tune-va-my-sweep-")
    assert submission.entrypoint == "exec python -m raffect tune va --name 'my sweep' --trials 5"
    assert submission.metadata == {
        "job_name": "tune va my sweep",
        "raffect": __version__,
        "line": "raffect tune va --name 'my sweep' --trials 5",
        "store": "s3://bucket/store",
        **FACTS,
    }
    assert submission.variables["RAFFECT_STORE"] == "s3://bucket/store"
    assert submission.variables["RAFFECT_JOB"] == submission.id
    assert submission.variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert submission.variables["OMP_NUM_THREADS"] == "2"


def test_two_submissions_of_one_command_have_ids_of_their_own():
    ids = {make_submission(COMMAND, FACTS, "s3://b/s", {}).id for _ in range(20)}
    assert len(ids) == 20


def test_a_sweep_named_as_its_task_is_named_once():
    facts = {"command": "tune", "task": "va", "sweep": "va"}
    assert make_submission(["tune", "va"], facts, "s3://b/s", {}).metadata["job_name"] == "tune va"


def test_no_secret_of_the_environment_is_in_a_submission(monkeypatch: pytest.MonkeyPatch):
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "planted-secret-1",
        "AWS_ACCESS_KEY_ID": "planted-secret-2",
        "AWS_SESSION_TOKEN": "planted-secret-3",
        "RAY_AUTH_TOKEN": "planted-secret-4",
        "WANDB_API_KEY": "planted-secret-5",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    submission = make_submission(COMMAND, FACTS, "s3://bucket/store", {})
    told = [submission.entrypoint, submission.metadata, submission.variables]
    assert "planted-secret" not in json.dumps(told)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "WANDB_API_KEY",
        "DB_PASSWORD",
        "HF_TOKEN",
    ],
)
def test_a_secret_cannot_be_given_along(name: str):
    with pytest.raises(SettingsError, match=f"{name} looks like a secret"):
        parse_variables([f"{name}=abc"])


def test_variables_by_value_and_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_MODE", "fast")
    assert parse_variables(["A=1=2", "MY_MODE", "B="]) == {"A": "1=2", "MY_MODE": "fast", "B": ""}
    with pytest.raises(SettingsError, match="NOT_SET_HERE: it is not set here"):
        parse_variables(["NOT_SET_HERE"])


def test_an_address_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:planted@127.0.0.1:9000")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL has a user or a password") as caught:
        make_submission(COMMAND, FACTS, "s3://bucket/store", {})
    assert "planted" not in str(caught.value)


def test_a_folder_is_told_by_its_whole_path(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAFFECT_STORE", raising=False)
    assert Store.open("here").uri == str(tmp_path / "here")
    assert Store.open(None).uri == str(tmp_path / "raffect-store")
    monkeypatch.setenv("RAFFECT_STORE", "s3://bucket/store/")
    assert Store.open(None).uri == "s3://bucket/store"
