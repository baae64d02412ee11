"""A sweep with its publisher, as a job: it stays for a while at its end, so that it is scraped."""

from __future__ import annotations

import sys
import time

from raffect.affwild2.tasks import Task
from raffect.context import Context
from raffect.jobs.publish import SweepPublisher
from raffect.store import Store
from raffect.sweep.settings import SweepSettings
from raffect.sweep.tune import tune
from tests.sweep import tiny

TRIALS, EPOCHS, LINGER_S = 10, 10, 5.0


def main(uri: str, name: str) -> None:
    store = Store(uri)
    settings = SweepSettings(trials=TRIALS, concurrent=2, min_epochs=2, trackers=())
    base = tiny.base(Task.VA, optimiser__epochs=EPOCHS)
    with SweepPublisher(store, name, "va", print, every_s=0.5) as publisher:
        tune(
            store,
            Task.VA,
            "clip",
            name,
            settings,
            base,
            on_update=publisher.update,
            context=Context("auto"),
        )
        time.sleep(LINGER_S)
    print("told to the end", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
