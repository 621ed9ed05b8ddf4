"""Self-attention with an implementation for each platform, chosen when a program is lowered.

- CPU, exported programs, float32, float64, and dropout on the attention weights: `attend`, two
  matrix products with a softmax in float32 between them.
- NVIDIA GPUs, 16-bit types: cuDNN's fused attention.
- TPUs, bfloat16: the kernel of `attention_kernel`, in the training steps of a recipe with at least
  `KERNEL_TOKENS` tokens (`batch_split_over`). Evaluation, prediction and folds that are trained in
  one program use `attend`.

The call of cuDNN was lowered; the kernel was compiled, and compared with `attend` in Pallas's
interpreter. Neither was run on its device.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jax_me.models.layers import at_least_float32, dropout, is_portable

# HBM traffic of attention and its gradients alone on a v5e, as compiled with 64 images (16 at 577
# tokens): the same at 50 tokens, where the scores stay in on-chip memory; with the kernel a quarter
# to a twelfth at 197, a nineteenth at 577. Nothing between 50 and 197 was compiled.
KERNEL_TOKENS = 128

_MESH = contextvars.ContextVar[Mesh | None]("mesh", default=None)


@contextlib.contextmanager
def batch_split_over(mesh: Mesh) -> Iterator[None]:
  """Says to forward passes that are traced within that the batch is split over all devices.

  The TPU compiler cannot divide a kernel between devices; with the mesh, each runs it on its rows.
  """
  token = _MESH.set(mesh)
  try:
    yield
  finally:
    _MESH.reset(token)


def separate_heads(x: jax.Array, heads: int) -> jax.Array:
  """[B, N, heads * head_dim] -> [B, heads, N, head_dim]."""
  return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  scale: float,
  drop_rate: float = 0.0,
  drop_key: jax.Array | None = None,
) -> jax.Array:
  """softmax(scale * query key^T) value, per head.

  Plain batched matrix products: on CPU they take 0.8 times as long as
  `jax.nn.dot_product_attention`, forwards and backwards, at 197 tokens.

  Args:
    query, key: [B, heads, N, head_dim].
    value: [B, heads, N, D].
    scale: factor of the scores.
    drop_rate: dropout on the attention weights, active when `drop_key` is given.
    drop_key: PRNG key; None means deterministic.

  Returns:
    [B, heads, N, D] in the dtype of `value`.
  """
  scores = jnp.matmul(
    query * scale, key.swapaxes(-1, -2), preferred_element_type=at_least_float32(query.dtype)
  )
  weights = dropout(jax.nn.softmax(scores, axis=-1), drop_rate, drop_key)
  return jnp.matmul(weights.astype(value.dtype), value)


def self_attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  heads: int,
  scale: float,
  drop_rate: float = 0.0,
  drop_key: jax.Array | None = None,
) -> jax.Array:
  """`attend` on arrays with the heads side by side, in the form of the platform.

  Args:
    query, key, value: [B, N, heads * head_dim].
    heads: number of heads.
    scale, drop_rate, drop_key: see `attend`.

  Returns:
    [B, N, heads * head_dim] in the dtype of `value`.
  """

  def plain(*arrays: jax.Array) -> jax.Array:
    separated = (separate_heads(x, heads) for x in arrays)
    mixed = attend(*separated, scale=scale, drop_rate=drop_rate, drop_key=drop_key)
    return mixed.swapaxes(1, 2).reshape(arrays[0].shape)

  drops = drop_key is not None and drop_rate > 0
  fused = {} if drops or is_portable() else _fused_forms(query, heads, scale)
  if not fused:
    return plain(query, key, value)
  return jax.lax.platform_dependent(query, key, value, **fused, default=plain)


def _fused_forms(query: jax.Array, heads: int, scale: float) -> dict[str, Callable[..., jax.Array]]:
  """Functions of query, key and value [B, N, dim] by platform."""
  _, tokens, dim = query.shape
  forms: dict[str, Callable[..., jax.Array]] = {}
  if query.dtype in (jnp.bfloat16, jnp.float16) and _has_cudnn():
    head_dim = dim // heads
    if head_dim % 8 == 0 and head_dim <= 128:
      forms["cuda"] = functools.partial(_in_cudnn, heads=heads, scale=scale)
  mesh = _MESH.get()
  if query.dtype == jnp.bfloat16 and mesh is not None and tokens >= KERNEL_TOKENS:
    # Imported here, because most programs do not need it and it takes time.
    from jax_me.models.attention_kernel import attend_in_kernel, query_block

    if query_block(tokens) is not None:
      kernel = functools.partial(_kernel_with_positions, attend_in_kernel, heads, scale)
      rows = P(mesh.axis_names)
      divided = set(mesh.axis_names) <= set(jax.sharding.get_abstract_mesh().manual_axes)
      forms["tpu"] = (
        kernel  # Within a shard_map, where each device has only its rows.
        if divided
        else jax.shard_map(kernel, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
      )
  return forms


def _kernel_with_positions(kernel, heads, scale, query, key, value):
  return kernel(query, key, value, heads, scale)


def _in_cudnn(query, key, value, *, heads, scale):
  query, key, value = (x.reshape(*x.shape[:2], heads, -1) for x in (query, key, value))
  mixed = jax.nn.dot_product_attention(query, key, value, scale=scale, implementation="cudnn")
  return mixed.reshape(*mixed.shape[:2], -1)


@functools.cache
def _has_cudnn() -> bool:
  """Whether jax has cuDNN and a GPU of this machine runs its fused attention (Ampere or later)."""
  device = jax.local_devices()[0]
  if device.platform != "gpu":
    return False
  try:
    if float(getattr(device, "compute_capability", 0)) < 8:
      return False
  except ValueError:  # AMD's have names.
    return False
  x = jax.ShapeDtypeStruct((1, 8, 1, 8), jnp.bfloat16)
  attention = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
  try:
    jax.eval_shape(attention, x, x, x)
  except RuntimeError:  # jax was installed without cuDNN.
    return False
  return True
