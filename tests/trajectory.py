"""Repeats the recorded training runs of the originals (golden/trajectories) in float64."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from golden_cases import filled, flax_location, golden_cases, torch_weights, trajectories


@dataclasses.dataclass
class Run:
  """What a run left.

  Attributes:
    loss, grad_norm: per step, before the update.
    param_norm: {torch key: L2 norm after the last update}, fixed tables too.
    model: with the final parameters.
  """

  loss: list[float]
  grad_norm: list[float]
  param_norm: dict[str, float]
  model: nnx.Module


def repeat_run(
  name: str,
  build: Callable[[], nnx.Module],
  loss: Callable[[nnx.Module, dict], jax.Array],
  batch_of_step: Callable[[dict, int], dict[str, np.ndarray]],
  *,
  locate: Callable = flax_location,
) -> Run:
  """Trains as the record says: AdamW with the learning rate and weight decay of every parameter.

  Args:
    name: case of `trajectories()`.
    build: makes the float64 model.
    loss: (model, batch) -> scalar.
    batch_of_step: (case, step) -> arrays that `loss` takes.
    locate: see `golden_cases.flax_location`.
  """
  case, record = golden_cases("trajectories")[name], trajectories()[name]
  weights = torch_weights(case)
  graphdef, state = filled(build, weights, dtype=np.float64, locate=locate)
  _, params, rest = nnx.split(nnx.merge(graphdef, state), nnx.Param, ...)
  path_of = {key: locate(key, value)[0] for key, value in weights.items()}
  group_of = {path_of[key]: group for group in record["param_groups"] for key in group["params"]}
  params = {path: variable.get_value() for path, variable in nnx.to_flat_state(params)}
  assert set(params) == set(group_of), "trained parameters differ from the original's"

  settings = record["settings"]
  adam = optax.scale_by_adam(*settings["betas"], eps=settings["eps"])

  def rebuild(params):
    values = nnx.from_flat_state([(path, nnx.Param(value)) for path, value in params.items()])
    return nnx.merge(graphdef, values, rest)

  @jax.jit
  def step(params, adam_state, batch):
    value, grads = jax.value_and_grad(lambda p: loss(rebuild(p), batch))(params)
    updates, adam_state = adam.update(grads, adam_state)
    new = {}
    for path, value_before in params.items():
      lr, decay = group_of[path]["lr"], group_of[path]["weight_decay"]
      new[path] = value_before - lr * (updates[path] + decay * value_before)
    return new, adam_state, value, optax.tree.norm(grads)

  losses, norms = [], []
  adam_state = adam.init(params)
  for number in range(record["n_steps"]):
    batch = {
      key: value.astype(np.float64) if value.dtype == np.float32 else value
      for key, value in batch_of_step(case, number).items()
    }
    params, adam_state, value, norm = step(params, adam_state, batch)
    losses.append(float(value))
    norms.append(float(norm))
  model = rebuild(params)
  final = dict(nnx.to_flat_state(nnx.state(model)))
  return Run(
    loss=losses,
    grad_norm=norms,
    param_norm={
      key: float(jnp.linalg.norm(final[path].get_value().ravel())) for key, path in path_of.items()
    },
    model=model,
  )


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
  """Batch mean of (1 - smoothing) * nll + smoothing * mean over classes of -log p."""
  log_p = jax.nn.log_softmax(logits)
  nll = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
  return jnp.mean((1 - smoothing) * nll - smoothing * log_p.mean(axis=1))


def check_run(run: Run, name: str, tolerance: float = 1e-8) -> None:
  """Losses, gradient norms and final parameter norms agree with the record, relatively."""
  record = trajectories()[name]["float64"]
  np.testing.assert_allclose(run.loss, record["loss"], rtol=tolerance, atol=0)
  np.testing.assert_allclose(run.grad_norm, record["grad_norm"], rtol=tolerance, atol=0)
  assert run.param_norm.keys() == record["param_norm"].keys()
  for key, norm in record["param_norm"].items():
    np.testing.assert_allclose(run.param_norm[key], norm, rtol=tolerance, atol=0, err_msg=key)
