"""Self-attention as one Pallas kernel for TPUs, forward and backward.

The scores of a block of queries stay in on-chip memory (VMEM): neither they nor the attention
weights are written to HBM, and the backward pass computes them again. All keys of a head are in
VMEM at once, so the softmax needs one pass. Query, key and value have their heads side by side in
the last axis, as the projection returns them, so no transposed copy is made either.

The kernel is written for bfloat16 and float16; products and softmax are accumulated in float32.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # Elements in a row of a vector register; blocks of the last axis are multiples of it.
SUBLANES = 16  # Rows of a tile of 16-bit elements.
# Float32 elements of a block of scores. A kernel may use 16 MiB of VMEM; the backward pass holds
# four such blocks.
MAX_SCORES = 2**19
MAX_TOKENS = 4096  # Keys, values and their gradients are in VMEM, too.


def query_block(tokens: int) -> int | None:
  """Queries in a block; None if the kernel does not take this number of tokens."""
  if tokens > MAX_TOKENS:
    return None
  padded = math.ceil(tokens / LANES) * LANES
  if padded * tokens <= MAX_SCORES:
    return tokens
  largest = MAX_SCORES // padded
  return max(
    (n for n in range(SUBLANES, largest + 1, SUBLANES) if tokens % n == 0),
    default=None,
  )


def head_block(dim: int, heads: int) -> int:
  """Heads in a block: as few as fill whole registers, or all."""
  size = dim // heads
  count = math.lcm(size, LANES) // size
  return count if heads % count == 0 else heads


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def attend_in_kernel(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  heads: int,
  scale: float,
  interpret: bool = False,
) -> jax.Array:
  """softmax(scale * query key^T) value, per head.

  Args:
    query, key, value: [B, N, heads * head_dim], N with a `query_block`.
    heads: number of heads.
    scale: factor of the scores.
    interpret: run without a TPU, for tests.

  Returns:
    [B, N, heads * head_dim] in the dtype of `value`.
  """
  return _call(_forward_kernel, (query, key, value), 1, heads, scale, interpret)[0]


def _forward(query, key, value, heads, scale, interpret):
  return attend_in_kernel(query, key, value, heads, scale, interpret), (query, key, value)


def _backward(heads, scale, interpret, residuals, gradient):
  arrays = (*residuals, gradient.astype(residuals[2].dtype))
  return tuple(_call(_backward_kernel, arrays, 3, heads, scale, interpret))


attend_in_kernel.defvjp(_forward, _backward)


def _call(kernel, arrays, results, heads, scale, interpret):
  """Runs a kernel over images, blocks of heads and blocks of queries.

  Args:
    kernel: see below.
    arrays: query, key, value and, in the backward pass, the gradient of the output.
    results: 1 for the output, 3 for the gradients of query, key and value.
    heads, scale, interpret: see `attend_in_kernel`.

  Returns:
    a list of arrays of the shape of the query.
  """
  batch, tokens, dim = arrays[0].shape
  rows, together = query_block(tokens), head_block(dim, heads)
  assert rows is not None
  size = dim // heads
  width = size * together
  some = pl.BlockSpec((None, rows, width), lambda image, head, row: (image, row, head))
  every = pl.BlockSpec((None, tokens, width), lambda image, head, row: (image, 0, head))
  shape = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
  summed = pltpu.VMEM((tokens, width), jnp.float32)
  return pl.pallas_call(
    functools.partial(kernel, size=size, scale=scale),
    grid=(batch, dim // width, tokens // rows),
    in_specs=[some, every, every, some][: len(arrays)],
    out_specs=[some, every, every][:results],
    out_shape=[shape] * results,
    scratch_shapes=[summed, summed] if results == 3 else [],
    # The gradients of keys and values are summed over the blocks of queries.
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    interpret=interpret,
  )(*arrays)


def _product(left, right, contracted):
  """Matrix product with a float32 sum; `contracted` are the summed axes of both."""
  axes = ((contracted[:1], contracted[1:]), ((), ()))
  return jax.lax.dot_general(left, right, axes, preferred_element_type=jnp.float32)


def _weights(query, key, scale):
  """Attention weights [rows, tokens] in float32."""
  scores = _product(query, key, (1, 1)) * scale
  exponentials = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
  return exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)


def _forward_kernel(query, key, value, output, *, size, scale):
  for start in range(0, query.shape[1], size):
    head = slice(start, start + size)
    weights = _weights(query[:, head], key[:, head], scale).astype(value.dtype)
    output[:, head] = _product(weights, value[:, head], (1, 0)).astype(output.dtype)


def _backward_kernel(
  query, key, value, gradient, to_query, to_key, to_value, key_sum, value_sum, *, size, scale
):
  block = pl.program_id(2)

  @pl.when(block == 0)
  def start_sums():
    key_sum[...] = jnp.zeros_like(key_sum)
    value_sum[...] = jnp.zeros_like(value_sum)

  for start in range(0, query.shape[1], size):
    head = slice(start, start + size)
    q, k, v, g = query[:, head], key[:, head], value[:, head], gradient[:, head]
    weights = _weights(q, k, scale)
    to_weights = _product(g, v, (1, 1))
    mean = jnp.sum(to_weights * weights, axis=-1, keepdims=True)
    to_scores = (scale * weights * (to_weights - mean)).astype(k.dtype)
    to_query[:, head] = _product(to_scores, k, (1, 0)).astype(to_query.dtype)
    key_sum[:, head] += _product(to_scores, q, (0, 0))
    value_sum[:, head] += _product(weights.astype(g.dtype), g, (0, 0))

  @pl.when(block == pl.num_programs(2) - 1)
  def write_sums():
    to_key[...] = key_sum[...].astype(to_key.dtype)
    to_value[...] = value_sum[...].astype(to_value.dtype)
