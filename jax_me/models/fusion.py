"""A border that XLA's fusions on CPU do not cross."""

import jax
import jax.numpy as jnp


def stop_fusion(x: jax.Array) -> jax.Array:
  """Returns x; on CPU it makes XLA keep x and its gradient in memory.

  On CPU, XLA writes a cheap sum with several readers into each of them. Along a residual stream
  that is every sum before it again: the work of a step grows with the square of the depth. A
  division is too dear to be repeated, and dividing by one is exact (subnormal numbers become
  zero, as elsewhere in XLA). The barrier hides the one from constant folding; alone it would be
  dropped before fusion. With a border after each block, a training step of ViT-Ti takes 0.37
  times as long and compiles in a quarter of the time.

  Other platforms get x itself.
  """

  def divide(x: jax.Array) -> jax.Array:
    return x / jax.lax.optimization_barrier(jnp.ones((), x.dtype))

  return jax.lax.platform_dependent(x, cpu=divide, default=lambda x: x)
