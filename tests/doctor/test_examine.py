"""One place is looked at part by part: what hangs or is missing does not hide the rest."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from raffect.doctor import examine
from raffect.doctor.facts import Gpus
from raffect.doctor.store_probe import new_folder
from raffect.doctor.timeouts import Timeouts
from raffect.store import Store


def test_what_hangs_leaves_the_rest_of_the_place_examined(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    ended = threading.Event()
    monkeypatch.setattr(examine, "look_at_machine", lambda paths: ended.wait())
    monkeypatch.setattr(examine, "look_at_gpus", lambda seconds: Gpus(torch="2.14.1"))
    seen = examine.look(store, new_folder(), "me", None, "/tmp", Timeouts(machine=0.05))
    ended.set()
    assert seen.machine.problem == "no answer in 0 s"
    assert seen.gpus is not None
    assert seen.gpus.value == Gpus(torch="2.14.1")
    assert seen.visit.value is not None
    assert not any(action.problem for action in seen.visit.value.actions)


def test_a_machine_is_examined_also_where_ray_cannot_be_imported():
    code = "import sys; sys.modules['ray'] = None; import raffect.doctor.examine"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
