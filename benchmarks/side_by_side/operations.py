"""Share of each kind of operation in the time of a program of jax_me."""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable

import jax

# %add_fusion.3 = f32[8,197]{1,0} fusion(...), ..., metadata={op_name="jit(step)/.../dot_general"
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*?[\s)}\]]([a-z][\w-]*)\(")
_ORIGIN = re.compile(r'op_name="([^"]*)"')
# Their time is that of the operations that they call.
_OUTER = ("while", "call", "conditional")


def operation_shares(run: Callable[[int], None], text: str, most: int = 8) -> dict[str, float]:
  """Profiles one call.

  Args:
    run: executes the program a number of times and waits.
    text: the compiled program (HLO).
    most: number of kinds.

  Returns:
    {kind: share in the time of all operations}, largest first. A kind is the instruction of XLA,
    with the operation of JAX that it (for a fusion, its result) comes from, and "backward" in the
    gradient.
  """
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run(1)
    (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
    data = jax.profiler.ProfileData.from_file(str(file))
  planes = list(data.planes)
  devices = [plane for plane in planes if plane.name.startswith("/device:")]
  kinds = _kinds(text)
  times: collections.Counter[str] = collections.Counter()
  for plane in devices or planes:
    for line in plane.lines:
      for event in line.events:
        name = dict(event.stats).get("hlo_op")
        kind = kinds.get(str(name), str(name))
        if name is not None and kind.split()[0] not in _OUTER:
          times[kind] += event.duration_ns
  total = sum(times.values())
  return {kind: round(time / total, 3) for kind, time in times.most_common(most)}


def _kinds(text: str) -> dict[str, str]:
  """{name of an instruction: kind}."""
  kinds = {}
  for line in text.splitlines():
    found, origin = _INSTRUCTION.match(line), _ORIGIN.search(line)
    if found:
      words = [found[2]]
      if origin:
        words.append(origin[1].rsplit("/", 1)[-1])
        words += ["backward"] if "transpose(" in origin[1] else []
      kinds[found[1]] = " ".join(words)
  return kinds
