"""Modules and functions without which the originals do not start here; none changes their loops.

The originals were written for timm 0.3.2, torch 1.8, CUDA, apex and MinkowskiEngine.
`restore_names` replaces what they import or call on the way: CUDA calls do nothing, and names that
newer releases removed are back. `use_fixed_batches` computes in float64 on the batches of
`tests/helpers/recipe_loops.py`. MinkowskiEngine is replaced by dense convolutions whose sites
without an image patch stay empty.
"""

import collections.abc
import contextlib
import io
import os
import pathlib
import sys
import types
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.helpers.recipe_loops import loop_images, loop_labels


class FixedImages:
  """In place of a dataset of files."""

  classes = 7

  def __init__(self, *arguments: Any, **keywords: Any):
    self.class_to_idx = {str(label): label for label in range(self.classes)}

  def __len__(self) -> int:
    return 1000


class FixedBatches:
  """In place of a DataLoader: the same batches in each epoch, of fewer images than asked for."""

  batches, images, side, classes, with_index = 1, 2, 32, 7, False

  def __init__(self, dataset: Any, *arguments: Any, **keywords: Any):
    self.dataset, self.sampler = dataset, keywords.get("sampler")

  def __len__(self) -> int:
    return self.batches

  def __iter__(self) -> collections.abc.Iterator:
    for number in range(self.batches):
      images = torch.from_numpy(loop_images(number, self.images, self.side))
      labels = torch.from_numpy(loop_labels(number, self.images, self.classes))
      yield (images, labels, labels) if self.with_index else (images, labels)


class OnOneDevice(nn.Module):
  """In place of DataParallel."""

  def __init__(self, module: nn.Module):
    super().__init__()
    self.module = module

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.module(x)


class SilentWriter:
  """In place of a TensorBoard writer."""

  def __init__(self, *arguments: Any, **keywords: Any):
    self.log_dir = ""

  def __getattr__(self, name: str) -> Any:
    return lambda *arguments, **keywords: None


def accuracy(output: torch.Tensor, target: torch.Tensor, topk: tuple = (1,)) -> list:
  """timm's, whose `view` newer releases of torch refuse."""
  best = output.topk(max(topk), 1).indices
  return [100.0 * (best[:, :k] == target[:, None]).any(1).double().mean() for k in topk]


def module(name: str, **content: Any) -> types.ModuleType:
  """A module that `import name` finds."""
  made = types.ModuleType(name)
  made.__dict__.update(content)
  sys.modules[name] = made
  return made


def restore_names() -> None:
  """Replaces what all originals need; call it before they are imported."""
  for old, new in {"float": float, "int": int}.items():
    setattr(np, old, new)
  module(
    "torch._six",
    inf=float("inf"),
    container_abcs=collections.abc,
    string_classes=(str,),
    int_classes=(int,),
  )
  module("torch.utils.tensorboard", SummaryWriter=SilentWriter)
  module("tensorboardX", SummaryWriter=SilentWriter)
  torch.cuda.synchronize = torch.cuda.empty_cache = lambda *arguments: None
  for kind in (torch.Tensor, nn.Module):
    kind.cuda = lambda self, *arguments, **keywords: self
    kind.to = _without_cuda(kind.to)
  os.popen = lambda *arguments: io.StringIO("24 80")  # The terminal of T2T-ViT's progress bar.
  import timm.utils

  timm.utils.accuracy = accuracy


def use_fixed_batches() -> None:
  """Float64, batches of `FixedBatches` and no files; call it after `restore_names`."""
  torch.set_default_dtype(torch.float64)
  torch.Tensor.float = torch.Tensor.double  # T2T-ViT's performer computes in float32.
  torch.save = lambda content, path: pathlib.Path(path).touch()
  torch.utils.data.DataLoader = FixedBatches
  import torchvision.datasets

  for name in ("ImageFolder", "CIFAR10"):
    setattr(torchvision.datasets, name, FixedImages)


def _without_cuda(move: collections.abc.Callable) -> collections.abc.Callable:
  def to(self: Any, *arguments: Any, **keywords: Any) -> Any:
    arguments = tuple(a for a in arguments if not str(a).startswith("cuda"))
    keywords.pop("non_blocking", None)
    return move(self, *arguments, **keywords) if arguments or keywords else self

  return to


def install_cuda() -> None:
  """For originals that start only where there is a GPU."""
  torch.cuda.is_available = lambda: True
  nn.DataParallel = OnOneDevice


def install_apex() -> None:
  """apex without its CUDA kernels: its FusedAdam decouples the weight decay, as AdamW does."""

  class FusedAdam(torch.optim.AdamW):
    def __init__(self, groups: list, lr: float):
      super().__init__(groups, lr=lr, weight_decay=0.0)

  amp = module(
    "apex.amp",
    initialize=lambda model, optimizer, **keywords: (model, optimizer),
    scale_loss=lambda loss, optimizer: contextlib.nullcontext(loss),
    state_dict=dict,
  )
  parallel = module(
    "apex.parallel", DistributedDataParallel=OnOneDevice, convert_syncbn_model=lambda model: model
  )
  module("apex.fp16_utils", to_python_float=float)
  optimizers = module("apex.optimizers", FusedAdam=FusedAdam)
  module("apex.multi_tensor_apply", multi_tensor_applier=None)
  module("apex", amp=amp, parallel=parallel, optimizers=optimizers)


class SparseTensor:
  """Features [sites, C] of the sites of a map [B, H, W] that are True."""

  def __init__(self, features: torch.Tensor, coordinate_map_key: Any, coordinate_manager: Any):
    self.F = features
    self.coordinate_map_key = coordinate_map_key
    self.coordinate_manager = coordinate_manager

  def __add__(self, other: "SparseTensor") -> "SparseTensor":
    return SparseTensor(self.F + other.F, self.coordinate_map_key, None)

  def dense(self) -> tuple:
    sites = self.coordinate_map_key
    grid = self.F.new_zeros(*sites.shape, self.F.shape[1])
    grid[sites] = self.F
    return (grid.permute(0, 3, 1, 2),)


def to_sparse(x: torch.Tensor) -> SparseTensor:
  """[B, C, H, W] -> its sites that are not 0."""
  sites = (x != 0).any(1)
  return SparseTensor(x.permute(0, 2, 3, 1)[sites], sites, None)


class SparseConvolution(nn.Module):
  """MinkowskiConvolution: kernel [k * k, in, out] with the flat index row + k * column."""

  depthwise = False

  def __init__(self, inputs: int, outputs: int = 0, *, kernel_size: int, stride: int = 1, **_: Any):
    super().__init__()
    channels = (inputs,) if self.depthwise else (inputs, outputs)
    self.size, self.stride = kernel_size, stride
    self.kernel = nn.Parameter(torch.zeros(kernel_size**2, *channels))
    self.bias = nn.Parameter(torch.zeros(1, channels[-1]))

  def forward(self, x: SparseTensor) -> SparseTensor:
    size, outputs = self.size, self.kernel.shape[-1]
    kernel = self.kernel.reshape(size, size, -1, outputs).permute(3, 2, 1, 0)
    y = functional.conv2d(
      x.dense()[0],
      kernel,
      stride=self.stride,
      padding=size // 2 if self.stride == 1 else 0,
      groups=outputs if self.depthwise else 1,
    )
    sites = x.coordinate_map_key
    if self.stride > 1:
      sites = functional.max_pool2d(sites[:, None].double(), self.stride)[:, 0] > 0
    return SparseTensor(y.permute(0, 2, 3, 1)[sites] + self.bias, sites, None)


class DepthwiseSparseConvolution(SparseConvolution):
  """MinkowskiDepthwiseConvolution: kernel [k * k, C]."""

  depthwise = True


class SparseLinear(nn.Module):
  """MinkowskiLinear."""

  def __init__(self, inputs: int, outputs: int):
    super().__init__()
    self.linear = nn.Linear(inputs, outputs)

  def forward(self, x: SparseTensor) -> SparseTensor:
    return SparseTensor(self.linear(x.F), x.coordinate_map_key, None)


class SparseGELU(nn.Module):
  """MinkowskiGELU."""

  def forward(self, x: SparseTensor) -> SparseTensor:
    return SparseTensor(functional.gelu(x.F), x.coordinate_map_key, None)


def install_minkowski() -> None:
  """MinkowskiEngine and MinkowskiOps, as far as FCMAE uses them."""
  module(
    "MinkowskiEngine",
    SparseTensor=SparseTensor,
    MinkowskiConvolution=SparseConvolution,
    MinkowskiDepthwiseConvolution=DepthwiseSparseConvolution,
    MinkowskiLinear=SparseLinear,
    MinkowskiGELU=SparseGELU,
  )
  module("MinkowskiOps", to_sparse=to_sparse)
