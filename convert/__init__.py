"""Conversion between torch checkpoints and jax_me models."""
