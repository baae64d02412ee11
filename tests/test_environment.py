"""What of the environment travels to workers."""

from __future__ import annotations

import pytest

from raffect.environment import JOB_CONFIG, forwarded_variables
from raffect.errors import SettingsError

SECRETS = {
    "AWS_ACCESS_KEY_ID": "marker", "AWS_SECRET_ACCESS_KEY": "marker", "WANDB_API_KEY": "marker",
    "AWS_SESSION_TOKEN": "marker", "MLFLOW_TRACKING_PASSWORD": "marker",
    "MLFLOW_TRACKING_URI": "http://user:marker@host", "RAY_AUTH_TOKEN": "marker",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", JOB_CONFIG):
        monkeypatch.delenv(name, raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_where_the_store_is_travels_and_no_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ca.pem")
    sent = forwarded_variables()
    assert sent["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert sent["AWS_CA_BUNDLE"] == "/etc/ca.pem"
    assert not SECRETS.keys() & sent.keys()
    assert "marker" not in repr(sent)


def test_an_address_with_a_password_goes_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:marker@127.0.0.1:9000")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL has a user or a password") as said:
        forwarded_variables()
    assert "marker" not in str(said.value)
    # The driver of a job has the node's environment, as its workers do.
    monkeypatch.setenv(JOB_CONFIG, "{}")
    assert forwarded_variables() == {}
