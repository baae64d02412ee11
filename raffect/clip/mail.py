"""Epochs on their way from Ray Train's controller to the driver.

Apart from the workers' code, because the controller imports it: without torch it starts seconds
sooner.
"""

from __future__ import annotations

from typing import Any

import ray.train


class Mailbox:
    """Epochs on their way from Ray Train's controller to the driver; an actor."""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []

    def put(self, letter: dict[str, Any]) -> None:
        """Leave an epoch's facts."""
        self.letters.append(letter)

    def take(self) -> list[dict[str, Any]]:
        """Letters that were not taken yet."""
        taken, self.letters = self.letters, []
        return taken


class Post(ray.train.UserCallback):
    """Runs in the controller, after a report and its checkpoint have been kept."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Post the facts of rank 0, which are the same on every worker."""
        self.mailbox.put.remote(metrics[0])
