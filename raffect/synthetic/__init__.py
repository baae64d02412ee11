"""A synthetic Aff-Wild2 with a known best reachable score, for demos, tests and benchmarks."""
