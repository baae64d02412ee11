"""Sweeps as jobs of a Ray cluster: submitted, watched, and reviewed."""
