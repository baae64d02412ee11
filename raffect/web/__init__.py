"""raffect's live pages, and optuna-dashboard on all studies of a store."""
