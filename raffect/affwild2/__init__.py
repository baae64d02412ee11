"""Aff-Wild2: what its tasks are, how it lies on disk, and how it comes into a store."""
