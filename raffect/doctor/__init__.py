"""Checks of a machine, a cluster and a store, each with what to do about a failure."""
