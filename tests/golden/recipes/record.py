"""Records every step of the originals' training loops: rates, weight decay and losses.

  python -m tests.golden.recipes.record --originals FOLDER    # needs timm 0.3.2, torchvision,
                                                              # torchtoolbox, pandas

FOLDER contains checkouts of the projects at the commits that docs/recipes.md names: mae,
ConvNeXt-V2, T2T-ViT, ViT_MicroExpression and MAE-SFER. Each recipe runs in a process of its own.
Writes ../recipe_schedules.json, which tests/golden/README.md describes.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


class Recorder:
  """What the optimiser was given at each step, and the loss of each backward pass."""

  def __init__(self) -> None:
    self.names: dict[int, str] = {}
    self.shapes: dict[str, list[int]] = {}
    self.rates: dict[str, list[float]] = {}
    self.decays: dict[str, set[float]] = {}
    self.losses: list[float] = []
    self.pending: list[float] = []

  def watch(self, model) -> None:
    """The model whose parameters are recorded by name."""
    self.names = {id(parameter): name for name, parameter in model.named_parameters()}
    self.shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    self.parameters = list(model.parameters())  # Keeps the ids valid.

  def before_step(self, optimizer, arguments, keywords) -> None:
    for group in optimizer.param_groups:
      for parameter in group["params"]:
        if not parameter.requires_grad:  # Has no gradient: the optimiser passes over it.
          continue
        name = self.names[id(parameter)]
        self.rates.setdefault(name, []).append(float(group["lr"]))
        self.decays.setdefault(name, set()).add(float(group["weight_decay"]))
    self.losses.append(sum(self.pending))
    self.pending.clear()

  def groups(self) -> list[dict]:
    """Parameters with the same rates and the same decay, which is constant."""
    groups: dict[tuple, list[str]] = {}
    for name, rates in self.rates.items():
      (decay,) = self.decays[name]
      groups.setdefault((decay, tuple(rates)), []).append(name)
    return [
      {"names": names, "weight_decay": decay, "lr": list(rates)}
      for (decay, rates), names in groups.items()
    ]


def record(name: str, originals: pathlib.Path) -> dict:
  """Runs one original in this process, in an empty working directory."""
  import torch
  from torch.optim.optimizer import register_optimizer_step_pre_hook

  from tests.golden.recipes import loops, stand_ins

  torch.set_num_threads(1)  # The models are small.
  recorder = Recorder()
  backward = torch.Tensor.backward

  def recorded_backward(self, *arguments, **keywords):
    recorder.pending.append(self.item())
    return backward(self, *arguments, **keywords)

  torch.Tensor.backward = recorded_backward
  register_optimizer_step_pre_hook(recorder.before_step)
  stand_ins.restore_names()
  stand_ins.use_fixed_batches()
  loops.watch = recorder.watch
  program, epoch_steps, accum_steps = loops.PROGRAMS[name]
  batches = stand_ins.FixedBatches
  batches.batches = epoch_steps * accum_steps
  program(originals)
  assert len(recorder.losses) % epoch_steps == 0
  return {
    "epochs": len(recorder.losses) // epoch_steps,
    "epoch_steps": epoch_steps,
    "accum_steps": accum_steps,
    "images": batches.images,
    "side": batches.side,
    "classes": batches.classes,
    "groups": recorder.groups(),
    "losses": recorder.losses,
    "shapes": recorder.shapes,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--originals", type=pathlib.Path, required=True)
  parser.add_argument("--output", type=pathlib.Path, help="another file than recipe_schedules.json")
  parser.add_argument("--recipe", help="record one recipe in this process")
  arguments = parser.parse_args()
  if arguments.recipe:
    warnings.simplefilter("ignore")
    result = record(arguments.recipe, arguments.originals.resolve())
    arguments.output.write_text(json.dumps(result))
    return
  from tests.golden.recipes.loops import PROGRAMS
  from tests.helpers.recipe_loops import RECORD

  results = {}
  for name in PROGRAMS:
    with tempfile.TemporaryDirectory() as scratch:
      output = pathlib.Path(scratch) / "result.json"
      command = [sys.executable, "-m", "tests.golden.recipes.record", "--recipe", name]
      command += ["--originals", str(arguments.originals.resolve()), "--output", str(output)]
      work = pathlib.Path(scratch) / "work"
      work.mkdir()
      environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
      subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL)
      results[name] = json.loads(output.read_text())
    print(name, len(results[name]["losses"]), "steps", len(results[name]["groups"]), "groups")
  lines = (f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results.items())
  (arguments.output or RECORD).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
  main()
