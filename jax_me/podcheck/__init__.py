"""Checks a recipe against a TPU pod that is not there: memory, work, exchanges, least time."""
