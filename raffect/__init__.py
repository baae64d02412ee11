"""raffect: continuous emotion recognition on Aff-Wild2, from raw crops to the best trial.

From Python:

    import raffect

    store = raffect.open_store("raffect-demo/store")
    store.sweeps()
    raffect.load_sweep(store, "va").to_dataframe()
    raffect.load_model(store, "va").predict(split="validation")
"""

from importlib import import_module
from typing import Any

__version__ = "0.4.0"
__all__ = [
    "Model",
    "OpenStore",
    "evaluate",
    "load_model",
    "load_sweep",
    "open_store",
    "tune",
]


def __getattr__(name: str) -> Any:
    # Nothing is imported before it is used: every command and worker imports this package.
    if name not in __all__:
        raise AttributeError(f"module 'raffect' has no attribute {name!r}")
    return getattr(import_module("raffect.api"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
