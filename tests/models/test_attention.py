"""Self-attention: the TPU kernel against plain products, and the form of each platform."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_me.models import attention, attention_kernel
from jax_me.models.attention import attend, batch_split_over, self_attention, separate_heads
from jax_me.models.attention_kernel import attend_in_kernel, head_block, query_block
from jax_me.models.layers import portable_operations
from jax_me.training.sharding import make_mesh
from tests.helpers.golden_cases import max_difference

pytestmark = pytest.mark.usefixtures("quick_compilation")


def arrays(tokens, dim, dtype=jnp.float32, batch=2):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.standard_normal((batch, tokens, dim)), dtype) for _ in range(4)]


def plain(query, key, value, heads, scale):
  separated = [separate_heads(x, heads) for x in (query, key, value)]
  return attend(*separated, scale=scale).swapaxes(1, 2).reshape(query.shape)


# The encoder and the decoder of MAE, heads of which several fill a block, blocks of 32 queries.
@pytest.mark.parametrize(
  ("tokens", "dim", "heads", "scores"),
  [(50, 128, 2, 2**19), (197, 64, 2, 2**19), (17, 256, 8, 2**19), (96, 64, 2, 2**12)],
)
def test_the_kernel_equals_plain_products(tokens, dim, heads, scores, monkeypatch):
  monkeypatch.setattr(attention_kernel, "MAX_SCORES", scores)
  *inputs, gradient = arrays(tokens, dim)
  scale = (dim // heads) ** -0.5
  output, pullback = jax.vjp(lambda q, k, v: attend_in_kernel(q, k, v, heads, scale, True), *inputs)
  desired, desired_pullback = jax.vjp(lambda *x: plain(*x, heads, scale), *inputs)
  assert max_difference(output, desired) < 2e-6
  for actual, wanted in zip(pullback(gradient), desired_pullback(gradient), strict=True):
    assert max_difference(actual, wanted) < 2e-6


def test_blocks_divide_tokens_and_heads():
  assert [query_block(tokens) for tokens in (50, 197, 577)] == [50, 197, 577]
  for tokens in (784, 3136):  # Of T2T-ViT's soft splits.
    block = query_block(tokens)
    assert tokens % block == 0 and block % attention_kernel.SUBLANES == 0
  assert query_block(787) is None and query_block(attention_kernel.MAX_TOKENS + 1) is None
  # Heads of 64, 32 and 80 elements fill registers of 128 in twos, fours and eights.
  assert [head_block(768, 12), head_block(512, 16), head_block(1280, 16)] == [2, 4, 8]
  assert head_block(192, 3) == 3


def lowered(platform, dtype=jnp.bfloat16, drop_rate=0.0, devices=4):
  """StableHLO of the output and the gradients."""
  mesh = make_mesh(devices=jax.devices()[:devices])

  def step(query, key, value, gradient):
    def mixed(*inputs):
      return self_attention(
        *inputs, heads=2, scale=0.1, drop_rate=drop_rate, drop_key=jax.random.key(0)
      )

    with batch_split_over(mesh):
      output, pullback = jax.vjp(mixed, query, key, value)
      return output, pullback(gradient)

  traced = jax.jit(step).trace(*arrays(attention.KERNEL_TOKENS, 64, dtype, batch=4))
  return traced.lower(lowering_platforms=(platform,)).as_text()


def test_tpu_programs_call_the_kernel_for_bfloat16():
  assert lowered("tpu").count("tpu_custom_call") == 2  # Forward and backward.
  assert "tpu_custom_call" not in lowered("tpu", jnp.float32)
  assert "tpu_custom_call" not in lowered("tpu", drop_rate=0.1)
  assert "custom_call @tpu" not in lowered("cpu")


def test_cuda_programs_call_cudnn_for_16_bits(monkeypatch):
  from jax._src.cudnn import fused_attention_stablehlo

  # The lowering needs no GPU, but jax asks for the version of the library.
  monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
  monkeypatch.setattr(attention, "_has_cudnn", lambda: True)
  for dtype in (jnp.bfloat16, jnp.float16):
    # On several devices the calls are inside a function that XLA calls when it divides the program.
    text = lowered("cuda", dtype, devices=1)
    assert "fmhaSoftmax(" in text and "fmhaSoftmaxBackward(" in text
  assert "fmha" not in lowered("cuda", jnp.float32, devices=1)
  assert "fmha" not in lowered("cuda", drop_rate=0.1, devices=1)
  assert "fmha" not in lowered("cpu", devices=1)


def test_cuda_programs_without_cudnn_are_plain():
  assert not attention._has_cudnn()
  assert "fmha" not in lowered("cuda", devices=1)


@pytest.mark.parametrize("capability", ["gfx90a", "7.5"])
def test_gpus_without_the_fused_kernel_have_none(capability, monkeypatch):
  gpu = types.SimpleNamespace(platform="gpu", compute_capability=capability)
  monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
  assert not attention._has_cudnn.__wrapped__()


def test_cpu_programs_are_bit_identical_to_plain_products():
  *inputs, gradient = arrays(attention.KERNEL_TOKENS, 64, jnp.bfloat16, batch=4)

  def run(function):
    output, pullback = jax.vjp(function, *inputs)
    return [np.asarray(x, np.float32) for x in (output, *pullback(gradient))]

  with batch_split_over(make_mesh(devices=jax.devices()[:4])):
    chosen = run(jax.jit(functools.partial(self_attention, heads=2, scale=0.1)))
  wanted = run(jax.jit(lambda *x: plain(*x, 2, 0.1)))
  for actual, desired in zip(chosen, wanted, strict=True):
    np.testing.assert_array_equal(actual, desired)


def test_exported_programs_make_no_choice():
  inputs = arrays(attention.KERNEL_TOKENS, 64, jnp.bfloat16, batch=4)[:3]
  with portable_operations(), batch_split_over(make_mesh(devices=jax.devices()[:4])):
    jaxpr = jax.make_jaxpr(functools.partial(self_attention, heads=2, scale=0.1))(*inputs)
  assert "platform_index" not in str(jaxpr)
