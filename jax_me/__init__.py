"""jax_me: facial expression and micro-expression recognition in JAX."""

__version__ = "0.1.0"
