"""Processes that wait for trials, and what Tune is kept from, on a real Ray of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ray.air._internal import usage
from ray.tune.execution import class_cache

from raffect.sweep.processes import Prestarted, lean

ACTOR = """
import os, sys, time
import ray
from raffect import engine
from raffect.sweep.processes import Prestarted, lean
from ray.tune.execution.class_cache import _ActorClassCache

class Actor:
    def about(self):
        return "wave" in sys.modules, os.environ["OMP_NUM_THREADS"]

engine.connect("local", ["wave"])
assert "RAY_preload_python_modules" not in os.environ
begun = Prestarted(1)
begun.wait()
with lean(True):
    kind = _ActorClassCache().get(Actor)
actor = kind.options(num_cpus=1).remote()
print(*ray.get(actor.about.remote()))
with begun._stub() as stub:
    print(len(begun._known(stub) - {os.getpid()}))
"""


@pytest.mark.ray
def test_an_actor_takes_a_process_that_waits_with_its_imports() -> None:
    environment = {
        k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "OMP_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", ACTOR], capture_output=True, text=True, env=environment, check=False
    )
    # One process in all: the actor's is the one that waited.
    assert done.stdout.split() == ["True", "1", "1"], done.stderr


def test_tune_has_back_what_it_was_kept_from() -> None:
    names, fixed = set(class_cache.ENV_VARS_TO_PROPAGATE), dict(class_cache.DEFAULT_ENV_VARS)
    tag = usage.tag_callbacks
    with lean(True):
        assert not class_cache.ENV_VARS_TO_PROPAGATE
        assert not class_cache.DEFAULT_ENV_VARS
    assert (names, fixed) == (class_cache.ENV_VARS_TO_PROPAGATE, class_cache.DEFAULT_ENV_VARS)
    assert usage.tag_callbacks is tag


def test_another_ray_whose_private_names_are_gone_only_starts_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ray._private.gcs_utils", "ray.core.generated.node_manager_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(usage, "tag_callbacks")
    monkeypatch.delattr(class_cache, "DEFAULT_ENV_VARS")
    Prestarted(1).wait()
    with lean(True):
        pass
    assert not hasattr(usage, "tag_callbacks")


NEEDLESS = """
import sys
from ray import tune
from ray.air._internal import usage
import ray.tune.tune
from raffect.environment import without
from raffect.sweep.processes import lean

with lean(False):
    ray.tune.tune.air_usage.tag_callbacks([tune.Callback()])
with without("torch"):
    import tensorboardX
print([name for name in ("torch", "mlflow", "wandb") if name in sys.modules])
import torch
"""


@pytest.mark.slow
def test_a_sweep_imports_no_tracker_that_it_has_not_and_no_pytorch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NEEDLESS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
