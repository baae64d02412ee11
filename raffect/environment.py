"""What of the environment travels to workers, and what never does.

The workers of a Ray on this machine inherit the environment. To a cluster go the variables that
say where the store is, and no credential: Ray writes what it is given to logs that every user of
a machine may read, and shows it in its dashboard. The nodes have credentials of their own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from raffect.errors import SettingsError
from raffect.store.filesystem import CHECKSUMS

_STORE = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION")
# A path, which has to be the same on the nodes.
_STORE_FILES = ("AWS_CA_BUNDLE",)
_SECRET = re.compile(r"secret|passw|token|credential|(^|_)key|key(_id)?$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s]*@")
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells the driver of a job which job it is, and what it was submitted with."""


def store_variables() -> dict[str, str]:
    """What is set here of what says where the store is; an address may have a password in it."""
    names = (*CHECKSUMS, *_STORE, *_STORE_FILES)
    return {name: os.environ[name] for name in names if name in os.environ}


def forwarded_variables() -> dict[str, str]:
    """What workers on other nodes are sent, to reach the same store.

    A job's driver sends nothing: its workers have what the job was submitted with.

    Raises:
        SettingsError: An address has a user or a password in it.
    """
    found = {} if JOB_CONFIG in os.environ else store_variables()
    refuse_logins(found)
    return found


def is_secret(name: str) -> bool:
    """Whether a variable is named like a secret."""
    return _SECRET.search(name) is not None


def refuse_logins(variables: Mapping[str, str]) -> None:
    """Refuse addresses with a user or a password in them; SettingsError names the variable."""
    for name, value in variables.items():
        if _LOGIN.search(value):
            raise SettingsError(
                f"{name} has a user or a password in its address; the cluster's logs and its"
                " dashboard would show it.",
                "an address without them",
                "Leave them out; give the cluster's nodes credentials of their own.",
            )


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that start in a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def no_credentials_sent(names: set[str], everything: bool = False) -> Iterator[None]:
    """Take the AWS variables out of a set of names that Ray copies to each trial's actor, or all.

    Tune has no switch for it, only that set, `class_cache.ENV_VARS_TO_PROPAGATE`.
    """
    unsent = {name for name in names if everything or name.startswith("AWS_")}
    names -= unsent
    try:
        yield
    finally:
        names |= unsent


@contextmanager
def without(module: str) -> Iterator[None]:
    """A block whose imports do not find a module, unless it is imported already.

    For libraries that import a large one for something else than what they are asked for.
    """
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
