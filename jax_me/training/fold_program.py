"""Program that trains several folds along a fold axis, each with its own weights.

Every array of the state has a leading fold axis, sharded over all devices of the mesh, so each
device trains its folds without communication. The examples of all folds are on each device once;
the host sends only the indices of the next batches.

On a device, the folds run in parallel ("vmap") or sequentially ("map"). In parallel, the matrix
products of all folds are batched, which uses a GPU better than one small model does. On a CPU this
is no faster; sequential training takes as long as a loop over folds, and its results are
bit-identical to those of a fold trained alone. (With one fold per device the last bit may differ,
because XLA removes a loop of length one.)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_me.data.device_images import gather
from jax_me.models.compiler_options import compiler_options
from jax_me.models.model_folder import ArrayTree
from jax_me.training.program import Program
from jax_me.training.sharding import batch_sharding, replicated
from jax_me.training.state import RunParameters, State
from jax_me.training.steps import Metrics

BLOCK = 16  # Maximum number of steps in one call of the program.


@dataclasses.dataclass(frozen=True)
class FoldProgram(Program):
  """A compiled program for `rows` folds. `step` and the other attributes are those of one fold.

  Attributes:
    rows: length of the fold axis, a multiple of the number of devices.
    memory_bytes: memory of each device that a step needs, according to the compiler; 0 if unknown.
    images: uint8 [N, S, S, 3] of all folds, on every device.
    columns: likewise "label" [N] and, where the loss takes them, "targets" [N, C] and "affect"
      [N, 2].
    advance_folds: (state, images, columns, indices [rows, BLOCK, B], steps [rows]) -> (state,
      metrics [rows, BLOCK] each). Fold f trains on its first steps[f] batches; its state does not
      change after that. Donates the state.
  """

  rows: int
  memory_bytes: int
  images: jax.Array
  columns: dict[str, jax.Array]
  advance_folds: Callable[..., tuple[State, Metrics]]
  block: ClassVar[int] = BLOCK

  def abstract_state(self) -> State:
    """Shapes, dtypes and shardings of the state without run parameters; allocates nothing."""
    return _with_rows(jax.eval_shape(self.build, jax.random.key(0)), self.rows, self.mesh)

  def initial_state(self, seed: int, initialise: Callable[[State], State] | None = None) -> State:
    """The state before the first step, without run parameters: the same for all folds.

    Args:
      seed: of the initial weights.
      initialise: changes those of one fold, for example to pre-trained weights.
    """
    return _copies(self.mesh, self.rows)(super().initial_state(seed, initialise))

  def put_run_parameters(self, *run_parameters: RunParameters) -> dict[str, jax.Array]:
    """The run parameters of up to `rows` folds, stacked; rows without a fold repeat the last."""
    padded = [*run_parameters, *[run_parameters[-1]] * (self.rows - len(run_parameters))]
    arrays = [jax.device_get(each.arrays()) for each in padded]
    stacked = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
    return jax.device_put(stacked, batch_sharding(self.mesh))

  def advance(self, state: State, batches: tuple[jax.Array, jax.Array]) -> tuple[State, Metrics]:
    """Trains on the next batches of every fold (`FoldBatches`); donates the state."""
    return self.advance_folds(state, self.images, self.columns, *batches)

  def fold_state(self, state: State, number: int, *, optimizer: bool = False) -> State:
    """The state of one fold, replicated on every device.

    Args:
      state: of all folds.
      number: of the fold.
      optimizer: with the state of the optimiser, which only a checkpoint needs.

    Returns:
      the state, with the run parameters.
    """
    rest = {name: part for name, part in state.items() if optimizer or name != "opt_state"}
    return _take_row(self.mesh)(rest, number)


def compile_folds(
  single: Program,
  *,
  rows: int,
  mode: str,
  batch_size: int,
  images: jax.Array,
  columns: dict[str, jax.Array],
  run_parameters: RunParameters,
) -> FoldProgram:
  """Compiles the program for a number of folds.

  Args:
    single: of one fold.
    rows: length of the fold axis.
    mode: how the folds of a device run, one of MODES.
    batch_size: examples per step and fold.
    images: uint8 [N, S, S, 3] of all folds, on every device.
    columns: as in `FoldProgram`.
    run_parameters: of any fold, for their shapes.

  Returns:
    the program.

  Raises:
    ValueError: the folds cannot be split evenly over the devices, or the mode is unknown.
  """
  mesh = single.mesh
  if rows < 1 or rows % mesh.size:
    raise ValueError(f"{rows} folds cannot be split evenly over {mesh.size} devices")
  if mode not in MODES:
    raise ValueError(f"the mode must be one of {', '.join(MODES)}, got {mode!r}")
  state = jax.eval_shape(single.build, jax.random.key(0))
  state["run_parameters"] = jax.eval_shape(run_parameters.arrays)
  by_fold, everywhere, spread = P(mesh.axis_names), P(), batch_sharding(mesh)
  step = jax.jit(single.pure_step)  # Jitted, so that `eval_shape` does not trace it again.
  advance = jax.jit(
    jax.shard_map(
      functools.partial(MODES[mode], functools.partial(_steps, step)),
      mesh=mesh,
      in_specs=(by_fold, everywhere, everywhere, by_fold, by_fold),
      out_specs=by_fold,
      check_vma=False,
    ),
    donate_argnums=0,
    compiler_options=compiler_options(mesh.devices.flat[0].platform),
    # Explicit, because empty arrays (milestones) would be returned replicated.
    out_shardings=spread,
  )
  compiled = advance.lower(
    _with_rows(state, rows, mesh),
    images,
    columns,
    jax.ShapeDtypeStruct((rows, BLOCK, batch_size), jnp.int32, sharding=spread),
    jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=spread),
  ).compile()
  return FoldProgram(
    **{field.name: getattr(single, field.name) for field in dataclasses.fields(single)},
    rows=rows,
    memory_bytes=_memory_bytes(compiled),
    images=images,
    columns=columns,
    advance_folds=compiled,
  )


def _steps(step: Callable, state: State, images, columns, indices, count) -> tuple[State, Metrics]:
  """`count` steps of one fold on the batches indices [BLOCK, B]; metrics [BLOCK]."""

  def batch(number):
    rows = indices[number]
    return {
      "image": gather(images, rows),
      **{name: column[rows] for name, column in columns.items()},
      "mask": rows >= 0,
      "index": rows,
    }

  def body(number, carried):
    state, metrics = carried
    state, new = step(state, batch(number))
    return state, jax.tree.map(lambda rows, row: rows.at[number].set(row), metrics, new)

  shapes = jax.eval_shape(lambda: step(state, batch(0))[1])
  empty = jax.tree.map(lambda shape: jnp.zeros((BLOCK, *shape.shape), shape.dtype), shapes)
  return lax.fori_loop(0, count, body, (state, empty))


def _in_parallel(steps: Callable, states: State, images, columns, indices, counts):
  """`steps` of all folds of this device at once; indices [folds, BLOCK, B], counts [folds]."""
  return jax.vmap(steps, in_axes=(0, None, None, 0, 0))(states, images, columns, indices, counts)


def _sequentially(steps: Callable, states: State, images, columns, indices, counts):
  """`steps` of one fold of this device after the other."""

  # A loop with in-place updates, as lax.map would keep a second copy of the states.
  def fold(row, carried):
    states, metrics = carried
    state, new = steps(_row(states, row), images, columns, indices[row], counts[row])
    return _put_row(states, state, row), _put_row(metrics, new, row)

  shapes = jax.eval_shape(lambda: steps(_row(states, 0), images, columns, indices[0], counts[0])[1])
  empty = jax.tree.map(lambda s: jnp.zeros((len(counts), *s.shape), s.dtype), shapes)
  return lax.fori_loop(0, len(counts), fold, (states, empty))


MODES = {"vmap": _in_parallel, "map": _sequentially}


def _row(tree: ArrayTree, row: int | jax.Array) -> ArrayTree:
  return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, row, keepdims=False), tree)


def _put_row(tree: Any, new: Any, row: jax.Array) -> Any:
  return jax.tree.map(lambda x, y: lax.dynamic_update_index_in_dim(x, y, row, 0), tree, new)


def _with_rows(shapes: Any, rows: int, mesh: Mesh) -> Any:
  sharding: NamedSharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype, sharding=sharding), shapes
  )


@functools.cache
def _copies(mesh: Mesh, rows: int) -> Callable[[Any], Any]:
  def copy(tree):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape)), tree)

  return jax.jit(copy, out_shardings=batch_sharding(mesh))


@functools.cache
def _take_row(mesh: Mesh) -> Callable[[Any, int], Any]:
  return jax.jit(_row, out_shardings=replicated(mesh))


def _memory_bytes(compiled: Any) -> int:
  analysis = compiled.memory_analysis()
  if analysis is None:
    return 0
  return int(
    analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
    + analysis.temp_size_in_bytes
  )
