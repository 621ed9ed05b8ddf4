"""Checks of a training config for a TPU slice without TPUs: memory, compute, communication."""
