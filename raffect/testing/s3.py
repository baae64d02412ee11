"""A real S3 server (moto's) in its own process, which checks signatures.

The data of `start_s3_server` is gone when the process ends; `start_durable_s3_server` survives
being killed and started again (durable.py).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raffect.environment import exported
from raffect.testing.durable import POLICY, USER
from raffect.testing.ports import free_ports

START_TIMEOUT_S = 30.0


@dataclass
class S3Server:
    """A running server; `environment` has all that a client process needs."""

    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """Environment variables with endpoint and credentials."""
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

    def user_who_may(self, *actions: str) -> dict[str, str]:
        """The environment of a new user with just these rights, e.g. `s3:GetObject`."""
        rights = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [rights]}
        iam = _client(self.endpoint, "iam", self.access_key, self.secret_key)
        key, secret = _create_user(iam, f"user-{uuid.uuid4().hex}", policy)
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def stop(self) -> None:
        """End the server; its data is gone with it."""
        self.process.kill()
        self.process.wait(timeout=10)


@dataclass
class DurableS3Server(S3Server):
    """A server whose acknowledged writes are kept in `folder` across kills."""

    folder: Path

    def kill(self) -> None:
        """End it as kill -9 does; connections are refused from here on."""
        self.stop()

    def start(self) -> None:
        """Start it again, at the same endpoint, with the same keys."""
        arguments = self.folder, self.endpoint, self.access_key, self.secret_key
        self.process = _launch_durable(*arguments)


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
    """Start a server on a free loopback port, with one user who may use S3."""
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    process = _launch(["moto.server", "-H", "127.0.0.1", "-p", str(port)], endpoint)
    try:
        key, secret = _create_user(_client(endpoint, "iam", "admin", "admin"), USER, POLICY)
        _check_from_here_on(endpoint)
    except BaseException:
        process.kill()
        raise
    return S3Server(endpoint, key, secret, process)


def start_durable_s3_server(folder: Path) -> DurableS3Server:
    """Start a server whose data, in `folder`, survives kill -9; it keeps its loopback port."""
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    key, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
    process = _launch_durable(folder, endpoint, key, secret)
    return DurableS3Server(endpoint, key, secret, process, folder)


def _launch_durable(folder: Path, endpoint: str, key: str, secret: str) -> subprocess.Popen[bytes]:
    demanded = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    arguments = ["raffect.testing.durable", str(folder), endpoint.rpartition(":")[2]]
    return _launch(arguments, endpoint, {**os.environ, **demanded})


def _launch(
    arguments: list[str], endpoint: str, variables: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Run a module that serves the endpoint; return when it answers, or raise RuntimeError."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=1):
                return process
            time.sleep(0.1)
        raise RuntimeError(f"The S3 server at {endpoint} did not start.")
    except BaseException:
        process.kill()
        raise


def _create_user(iam: Any, name: str, policy: object) -> tuple[str, str]:
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(policy))
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def _check_from_here_on(endpoint: str) -> None:
    """Let the server check every signature and policy."""
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
    )
    urllib.request.urlopen(request, timeout=5).close()


environment = exported
"""Variables that are set for a while, for commands too that are started meanwhile."""
