"""The fold axis: one program that trains and judges several folds, each with weights of its own.

Every array of the state gets a leading axis of folds, sharded over all devices of the mesh: a
device keeps its own folds whole and talks to no other. The examples of all folds lie on each device
once; the host sends only which of them a fold sees next.

On a device the folds go side by side ("vmap") or one after the other ("map"). Side by side, the
weights of all folds make one batched product, which fills a GPU that a small model alone leaves
idle. A CPU has nothing to fill: there the batched forms only cost, and one after the other is as
fast as a loop over folds and computes the very bits of a fold that is trained alone. (Several
devices with one fold each round otherwise in the last bit: a loop over one fold is dissolved.)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_me.data.device_images import gather
from jax_me.training.loop import Program
from jax_me.training.sharding import batch_sharding, replicated
from jax_me.training.state import Constants, State
from jax_me.training.steps import Metrics

MODES = ("vmap", "map")
BLOCK = 16  # Most steps in one call of the program.

# (weights, constants, images uint8 [B, S, S, 3]) -> float32 [B, C]
Classify = Callable[[Any, Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class FoldProgram:
  """A compiled program for `rows` folds at a time.

  Attributes:
    single: the program of one fold, from which this one is made.
    rows: length of the fold axis, a multiple of the number of devices.
    mode: "vmap" or "map".
    needed: bytes of each device's memory that a step takes, by the compiler's account; 0 where it
      gives none.
    advance: (state, images [N, S, S, 3], columns {"label": [N], ...}, indices [rows, BLOCK, B],
      steps [rows]) -> (state, metrics [rows, BLOCK] each). Fold f takes its first steps[f] batches
      and then stands still; donates the state.
    classify: (weights, constants, images [N, S, S, 3], positions [rows, E], wanted [rows]) ->
      float32 [rows, E, C]. Position -1 is a black image; folds not wanted may give zeros.
  """

  single: Program
  rows: int
  mode: str
  needed: int
  advance: Callable[..., tuple[State, Metrics]]
  classify: Callable[..., jax.Array]

  @property
  def mesh(self) -> Mesh:
    return self.single.mesh

  def spread(self, state: State, constants: Sequence[Constants]) -> State:
    """All folds from one fresh state (without constants), each with its own constants."""
    copies = _copies(self.mesh, self.rows)(state)
    return {**copies, "constants": self.place(constants)}

  def place(self, constants: Sequence[Constants]) -> dict[str, jax.Array]:
    """The constants of up to `rows` folds, stacked; rows without a fold repeat the last."""
    padded = [*constants, *[constants[-1]] * (self.rows - len(constants))]
    arrays = [jax.device_get(each.arrays()) for each in padded]
    stacked = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
    return jax.device_put(stacked, batch_sharding(self.mesh))

  def abstract(self) -> State:
    """Shapes, types and shardings of the state without constants."""
    return _with_rows(jax.eval_shape(self.single.build, jax.random.key(0)), self.rows, self.mesh)

  def fold(self, tree: Any, row: int) -> Any:
    """One fold's arrays, without the fold axis, on every device."""
    return _take_row(self.mesh)(tree, row)


def compile_folds(
  single: Program,
  classify: Classify,
  *,
  rows: int,
  mode: str,
  batch_size: int,
  images: jax.Array,
  columns: dict[str, jax.Array],
  constants: Constants,
) -> FoldProgram:
  """Compiles the program for a number of folds.

  Args:
    single: of one fold.
    classify: class probabilities of one fold.
    rows: length of the fold axis.
    mode: one of MODES.
    batch_size: examples a step and fold.
    images: of all folds, on every device.
    columns: likewise "label" [N] and, where there are shares of votes, "targets" [N, C].
    constants: of any fold, for their shapes.

  Raises:
    ValueError: the folds cannot be shared out evenly, or there is no such mode.
  """
  mesh = single.mesh
  if rows < 1 or rows % mesh.size:
    raise ValueError(f"{rows} folds cannot be shared out evenly over {mesh.size} devices")
  if mode not in MODES:
    raise ValueError(f"the mode must be one of {MODES}, got {mode!r}")
  state = jax.eval_shape(single.build, jax.random.key(0))
  state["constants"] = jax.eval_shape(constants.arrays)
  folds, whole, spread = P(mesh.axis_names), P(), batch_sharding(mesh)
  step = jax.jit(single.pure_step)  # Traced once, wherever its shapes are asked for.
  advance = jax.jit(
    jax.shard_map(
      functools.partial(_over_folds(mode), functools.partial(_steps, step)),
      mesh=mesh,
      in_specs=(folds, whole, whole, folds, folds),
      out_specs=folds,
      check_vma=False,
    ),
    donate_argnums=0,
    # Said aloud, for empty arrays (milestones) would come back replicated.
    out_shardings=spread,
  )
  compiled = advance.lower(
    _with_rows(state, rows, mesh),
    images,
    columns,
    jax.ShapeDtypeStruct((rows, BLOCK, batch_size), jnp.int32, sharding=spread),
    jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=spread),
  ).compile()
  judge = jax.jit(
    jax.shard_map(
      functools.partial(_classify_folds, classify, mode),
      mesh=mesh,
      in_specs=(folds, folds, whole, folds, folds),
      out_specs=folds,
      check_vma=False,
    )
  )
  return FoldProgram(single, rows, mode, _needed(compiled), compiled, judge)


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
    return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), metrics, new)

  shapes = jax.eval_shape(lambda: step(state, batch(0))[1])
  empty = jax.tree.map(lambda shape: jnp.zeros((BLOCK, *shape.shape), shape.dtype), shapes)
  return lax.fori_loop(0, count, body, (state, empty))


def _over_folds(mode: str) -> Callable:
  """Runs `_steps` for every fold of this device."""

  def side_by_side(steps, states, images, columns, indices, counts):
    return jax.vmap(steps, in_axes=(0, None, None, 0, 0))(states, images, columns, indices, counts)

  def one_by_one(steps, states, images, columns, indices, counts):
    # A loop that changes its states in place; lax.map would keep a second copy of them.
    def fold(row, carried):
      states, metrics = carried
      state, new = steps(_row(states, row), images, columns, indices[row], counts[row])
      return _put_row(states, state, row), _put_row(metrics, new, row)

    shapes = jax.eval_shape(
      lambda: steps(_row(states, 0), images, columns, indices[0], counts[0])[1]
    )
    empty = jax.tree.map(lambda s: jnp.zeros((len(counts), *s.shape), s.dtype), shapes)
    return lax.fori_loop(0, len(counts), fold, (states, empty))

  return {"vmap": side_by_side, "map": one_by_one}[mode]


def _classify_folds(classify: Classify, mode: str, weights, constants, images, positions, wanted):
  def judge(weights, constants, rows):
    return classify(weights, constants, gather(images, rows))

  if mode == "vmap":
    return jax.vmap(judge)(weights, constants, positions)

  def one(fold):
    weights, constants, rows, is_wanted = fold
    shape = jax.eval_shape(judge, weights, constants, rows)
    nothing = jnp.zeros(shape.shape, shape.dtype)
    return lax.cond(is_wanted, lambda: judge(weights, constants, rows), lambda: nothing)

  return lax.map(one, (weights, constants, positions, wanted))


def _row(tree: Any, row: int | jax.Array) -> Any:
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


def _needed(compiled: Any) -> int:
  analysis = compiled.memory_analysis()
  if analysis is None:
    return 0
  return int(
    analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    - analysis.alias_size_in_bytes
    + analysis.temp_size_in_bytes
  )
