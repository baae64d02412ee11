"""Sweeps: an Optuna study in the store is the source of truth, Ray Tune runs its trials."""
