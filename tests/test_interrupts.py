"""What stop signals do to a process that runs a command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from raffect import interrupts
from raffect.store import Store
from tests.web.pages import page

BEGIN = """
import hashlib, signal, sys, time
from raffect import interrupts
interrupts.install()
"""
END = """
except KeyboardInterrupt:
    time.sleep(0.3)
    print("cleaned up", flush=True)
    sys.exit(interrupts.exit_code())
"""
IN_PYTHON = "print('began', flush=True); time.sleep(60)"
IN_C = "print('began', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
IN_A_CALLBACK = """
    with interrupts.deferred():
        print('began', flush=True)
        while interrupts.received() is None:
            try:
                time.sleep(0.1)
            except KeyboardInterrupt:
                print("swallowed", flush=True)
"""
IN_A_LIBRARY = """
    with interrupts.deferred(), interrupts.kept():
        signal.signal(signal.SIGTERM, lambda *told: print("library", flush=True))
        signal.signal(signal.SIGINT, lambda *told: None)
        print('began', flush=True)
        while interrupts.received() is None:
            time.sleep(0.1)
"""
WHILE_HUSHED = """
    with interrupts.hushed():
        print("began", flush=True)
        time.sleep(60)
"""
CLEANS_UP_LONG = "print('began', flush=True)\n    try: time.sleep(60)\n    finally: time.sleep(60)"


class Process:
    """A script that has begun its work."""

    def __init__(self, work: str, **options: Any) -> None:
        # As a terminal has it: a whole run of tests may be under nohup, which ignores it.
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        script = f"{BEGIN}try:\n    {work.strip()}{END}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, **options,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "began\n"

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.mark.parametrize("number", interrupts.STOP)
@pytest.mark.parametrize("work", [IN_PYTHON, WHILE_HUSHED, IN_A_CALLBACK, IN_A_LIBRARY])
@pytest.mark.slow
def test_the_first_ends_in_order_and_says_so(work: str, number: signal.Signals):
    process = Process(work)
    process.send(number)
    code, out, err = process.end()
    assert code == 128 + number
    assert out.removeprefix("library\n") == "cleaned up\n"
    named = "" if number == signal.SIGINT else f" ({number.name})"
    assert err == f"Stopping{named}; again to leave now.\n"


@pytest.mark.parametrize("work", [IN_C, CLEANS_UP_LONG])
def test_the_second_ends_whatever_the_process_is_at(work: str):
    process = Process(work)
    time.sleep(0.3)
    process.send(signal.SIGINT)
    assert process.process.stderr is not None
    assert process.process.stderr.readline() == "Stopping; again to leave now.\n"
    time.sleep(0.5)
    process.send(signal.SIGINT)
    began = time.monotonic()
    assert process.end()[:2] == (130, "")
    assert time.monotonic() - began < 10


def test_a_closed_terminal_sends_two_that_count_as_one():
    process = Process(IN_PYTHON)
    process.send(signal.SIGHUP, signal.SIGTERM)
    code, out, _ = process.end()
    assert (code in (129, 143), out) == (True, "cleaned up\n")


def test_a_signal_that_does_not_end_the_main_thread_s_wait_is_answered_all_the_same():
    """As one does that comes just before the wait begins: here another thread gets it."""
    work = (
        "import threading\n"
        "    other = threading.Thread(target=time.sleep, args=(60,), daemon=True)\n"
        "    other.start()\n"
        "    send = lambda: signal.pthread_kill(other.ident, signal.SIGTERM)\n"
        "    threading.Timer(0.3, send).start()\n"
        "    print('began', flush=True); time.sleep(60)"
    )
    process = Process(work)
    assert process.end()[:2] == (143, "cleaned up\n")


def test_nobody_reads_what_is_said():
    process = Process(IN_PYTHON)
    assert process.process.stderr is not None
    process.process.stderr.close()
    process.send(signal.SIGHUP)
    assert process.process.wait(timeout=20) == 129


def test_nohup_is_heeded():
    process = Process(IN_PYTHON, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send(signal.SIGHUP)
    time.sleep(0.5)
    assert process.process.poll() is None
    process.send(signal.SIGTERM)
    assert process.end()[0] == 143


def test_a_signal_in_mid_clean_up_does_not_break_it():
    work = "print('began', flush=True)\n    try: time.sleep(60)\n    finally: time.sleep(1)"
    process = Process(work)
    process.send(signal.SIGTERM)
    time.sleep(0.1)
    process.send(signal.SIGTERM)
    assert process.end()[:2] == (143, "cleaned up\n")


@pytest.mark.parametrize(
    ("number", "code"),
    [("SIGINT", 0), ("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=pytest.mark.long)],
)
@pytest.mark.slow
def test_a_board_is_ended_by_ctrl_c_and_interrupted_by_others(
    store: Store, number: str, code: int
):
    with page(store) as board:
        assert board.ask("/").status == 200
        board.process.send_signal(signal.Signals[number])
        told = board.process.communicate(timeout=30)[1]
        assert board.process.returncode == code
    assert "Traceback" not in told
    assert ("Interrupted" in told) == bool(code)
