"""raffect's own page: the sweeps of a store, live, and their reports."""
