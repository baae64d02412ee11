"""A real S3 server (moto's) in its own process, with real keys that it checks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

START_TIMEOUT_S = 30.0
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


@dataclass
class S3Server:
    """A running server; `environment` is all that a process needs to use it."""

    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """Environment variables of endpoint and credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def new_bucket(self) -> str:
        """Create an empty bucket and return its name."""
        name = f"raffect-{uuid.uuid4().hex[:12]}"
        _client(self.endpoint, "s3", self.access_key, self.secret_key).create_bucket(Bucket=name)
        return name

    def stop(self) -> None:
        """End the server; its data is gone with it."""
        self.process.kill()
        self.process.wait(timeout=10)


def _client(endpoint: str, service: str, key: str, secret: str) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )


def start_s3_server() -> S3Server:
    """Start a server on a free loopback port, with one user who may use S3.

    Raises:
        RuntimeError: It did not answer within START_TIMEOUT_S.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait(endpoint, process)
        key, secret = _create_user(endpoint)
    except BaseException:
        process.kill()
        raise
    return S3Server(endpoint, key, secret, process)


def _wait(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"The S3 server at {endpoint} did not start.")


def _create_user(endpoint: str) -> tuple[str, str]:
    iam = _client(endpoint, "iam", "admin", "admin")
    iam.create_user(UserName="raffect")
    iam.put_user_policy(UserName="raffect", PolicyName="s3", PolicyDocument=json.dumps(_POLICY))
    answer = iam.create_access_key(UserName="raffect")
    # From here on the server checks every signature and policy.
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth",
        data=b"0",
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=5):
        pass
    return answer["AccessKey"]["AccessKeyId"], answer["AccessKey"]["SecretAccessKey"]


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
