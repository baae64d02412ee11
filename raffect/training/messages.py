"""Messages from the workers of a run to its driver.

Apart from ray_workers.py because the actor's process imports this module: without torch it starts
seconds sooner.
"""

from __future__ import annotations

from typing import Any


class MessageQueue:
    """Messages from rank 0 to the driver, and the controller's handle; an actor."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self._unhandled = 0
        self._controller: Any = None

    def put(self, message: bytes) -> None:
        """Add a message, pickled: unpickling it here would import the model's code."""
        self._messages.append(message)
        self._unhandled += 1

    def take(self) -> tuple[list[bytes], Any]:
        """The messages since the last call, and the controller's handle once it has started."""
        taken, self._messages = self._messages, []
        return taken, self._controller

    def mark_handled(self) -> None:
        """The driver is done with one more message."""
        self._unhandled -= 1

    def is_handled(self) -> bool:
        """Whether the driver is done with all messages."""
        return not self._unhandled

    def set_controller(self, controller: Any) -> None:
        """Keep the controller's handle, which `TorchTrainer.fit` does not give away."""
        self._controller = controller
