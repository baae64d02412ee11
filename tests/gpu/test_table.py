"""The table of what only a GPU can show, on the CPU: that it works, and that a fault shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from tests.gpu import __main__ as table
from tests.gpu import numbers
from tests.gpu.work import Scale


@pytest.mark.long
def test_the_table_is_whole_and_fits_the_screen() -> None:
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(" right " in line for line in lines) == len(numbers.CHECKS)
    assert len(re.findall(r"steps/s|crops/s", done.stdout)) == 11
    assert lines[-1] == "All numbers right"


def test_a_wrong_number_and_a_broken_check_are_told_from_a_right_one() -> None:
    cpu, scale = torch.device("cpu"), Scale.quick()

    def wrong(device: torch.device, scale: Scale) -> str:
        raise AssertionError("0.2 apart")

    def broken(device: torch.device, scale: Scale) -> str:
        raise RuntimeError("CUDA error")

    assert table.run(numbers.not_finite, cpu, scale).startswith("right  nan: ")
    assert table.run(wrong, cpu, scale) == "WRONG  0.2 apart"
    assert table.run(broken, cpu, scale) == "FAILED RuntimeError: CUDA error"
