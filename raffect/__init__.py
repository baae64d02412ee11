"""raffect: continuous emotion recognition on Aff-Wild2, from raw crops to the best trial."""

__version__ = "0.4.0"
