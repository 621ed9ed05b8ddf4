"""Programs of the peers: torch eager and compiled, and ONNX Runtime."""

import contextlib
import importlib.util
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.side_by_side.peers import AUTOCAST_ONLY, INSTALL, PEERS
from benchmarks.side_by_side.rows import CHANNELS_LAST, COMPILED, ONNX_RUNTIME, Row
from benchmarks.side_by_side.side import Side, UnavailableError

SIZE = 224


def build(
  row: Row, form: str, batch: int, dtype: str, originals: pathlib.Path | None
) -> tuple[Side, str]:
  """Makes one form of the peer of a row, and calls it once.

  Args:
    row: the work.
    form: one of `rows.PEER_FORMS`.
    batch: number of images.
    dtype: "float32" on the CPU, or "bfloat16" on the GPU. Inference has its weights in it too; a
      training step has float32 weights and computes in it by autocast.
    originals: folder with clones of original projects.

  Returns:
    The side, and the source of the peer with its version.

  Raises:
    UnavailableError: a package or a file is missing.
  """
  torch.manual_seed(0)
  model, source = PEERS[row.peer](originals)
  parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
  if form == ONNX_RUNTIME:
    return Side(_onnx_runtime(model.eval(), batch), parameters), source
  device = "cpu" if dtype == "float32" else "cuda"
  if device == "cuda" and not torch.cuda.is_available():
    raise UnavailableError("this torch cannot use the GPU")
  images = torch.randn(batch, 3, SIZE, SIZE, device=device)
  model = model.to(device)
  if form == CHANNELS_LAST:
    model = model.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
  if row.work == "inference":
    run = _inference(row, model, images, dtype, form == COMPILED)
  else:
    run = _step(row, model, images, dtype, form == COMPILED)
  started = time.perf_counter()
  run(1)
  seconds = time.perf_counter() - started
  return Side(run, parameters, seconds if form == COMPILED else None), source


def _inference(
  row: Row, model: nn.Module, images: torch.Tensor, dtype: str, compiled: bool
) -> Callable[[int], None]:
  model = model.eval().to(getattr(torch, dtype))
  images = images.to(getattr(torch, dtype))
  forward = torch.compile(model) if compiled else model
  autocast = dtype != "float32" and row.peer in AUTOCAST_ONLY

  def run(calls: int) -> None:
    with torch.inference_mode(), _autocast(images, dtype if autocast else "float32"):
      for _ in range(calls):
        forward(images)
    _wait(images)

  return run


def _step(
  row: Row, model: nn.Module, images: torch.Tensor, dtype: str, compiled: bool
) -> Callable[[int], None]:
  model = model.train()
  forward = torch.compile(model) if compiled else model
  labels = torch.randint(1000, (len(images),), device=images.device)
  optimizer = torch.optim.AdamW(
    [p for p in model.parameters() if p.requires_grad], lr=1e-5, weight_decay=0.05, fused=True
  )

  def loss() -> torch.Tensor:
    output = forward(images)
    if row.mask_ratio is None:
      return nn.functional.cross_entropy(output, labels)
    return getattr(output, "loss", output)

  def run(calls: int) -> None:
    for _ in range(calls):
      with _autocast(images, dtype):
        value = loss()
      value.backward()
      optimizer.step()
      optimizer.zero_grad(set_to_none=True)
    _wait(images)

  return run


def _autocast(images: torch.Tensor, dtype: str) -> contextlib.AbstractContextManager:
  if dtype == "float32":
    return contextlib.nullcontext()
  return torch.autocast(images.device.type, getattr(torch, dtype))


def _wait(images: torch.Tensor) -> None:
  if images.is_cuda:
    torch.cuda.synchronize()


def _onnx_runtime(model: nn.Module, batch: int) -> Callable[[int], None]:
  """The model as torch exports it, in ONNX Runtime, whose threads wait as those of torch."""
  missing = [
    name for name in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(name) is None
  ]
  if missing:
    raise UnavailableError(f"not installed: {', '.join(missing)}: {INSTALL}")
  import onnxruntime

  images = torch.randn(batch, 3, SIZE, SIZE)
  with tempfile.TemporaryDirectory() as folder:
    file = str(pathlib.Path(folder) / "model.onnx")
    torch.onnx.export(model, (images,), file, input_names=["images"], verbose=False)
    options = onnxruntime.SessionOptions()
    if os.environ.get("OMP_WAIT_POLICY") == "passive":
      options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
  inputs = {"images": images.numpy()}

  def run(calls: int) -> None:
    for _ in range(calls):
      session.run(None, inputs)

  return run
