# What `import raffect` offers, for type checkers: __init__.py imports it when it is first used.
from raffect.api import Model as Model
from raffect.api import OpenStore as OpenStore
from raffect.api import evaluate as evaluate
from raffect.api import load_model as load_model
from raffect.api import load_sweep as load_sweep
from raffect.api import open_store as open_store
from raffect.api import tune as tune

__version__: str
__all__ = [
    "Model",
    "OpenStore",
    "evaluate",
    "load_model",
    "load_sweep",
    "open_store",
    "tune",
]
