"""Model families; `MODELS` lists them, `create_model` builds one by name."""

from jax_me.models.registry import MODELS, create_model

__all__ = ["MODELS", "create_model"]
