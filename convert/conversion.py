"""A converted model with its load report, and its output folder."""

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from jax_me.files import staging_folder

from .errors import ConversionError

if TYPE_CHECKING:
  from flax import nnx

  from jax_me.models.model_folder import ModelFields

  from .hub_model import Preprocessing
  from .load_report import LoadReport
  from .torch_files import TorchCheckpoint

REPORT_FILE = "conversion.json"
IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


@dataclasses.dataclass
class Conversion:
  """A converted model.

  Attributes:
    model: the module with its weights.
    name: key of `jax_me.models.MODELS`.
    arguments: constructor keywords, given or inferred from the file.
    report: outcome for every key.
    labels: class names that the hub folder gives.
    preprocessing: of images, as the hub folder gives it.
    licence: of the weights, as the hub folder gives it.
    checkpoint: what was converted.
  """

  model: "nnx.Module"
  name: str
  arguments: dict[str, Any]
  report: "LoadReport"
  labels: list[str] | None = None
  preprocessing: "Preprocessing | None" = None
  licence: str = ""
  checkpoint: "TorchCheckpoint | None" = None


def save_conversion(
  conversion: Conversion,
  folder: str | os.PathLike,
  *,
  labels: list[str] | None = None,
  mean: list[float] | None = None,
  std: list[float] | None = None,
  align: bool = False,
  weights_format: str = "orbax",
  force: bool = False,
) -> None:
  """Writes the model folder, including `conversion.json`, atomically.

  Args:
    conversion: result of `convert_checkpoint`.
    folder: to be created.
    labels: class names in the order of the logits; None takes the hub's, or else numbers the
      classes of a classifier.
    mean: per RGB channel of images in [0, 1]; None takes the hub's, or else ImageNet's, as in all
      original models.
    std: standard deviation, likewise.
    align: the model was trained on faces that jax_me aligned, of its input size; else on whole
      images.
    weights_format: "orbax" or "safetensors".
    force: replace an existing model folder.

  Raises:
    ConversionError: the folder is not empty, the labels do not match the head, or the installed
      library of the hub computes something else.
  """
  from jax_me.models.model_folder import SavedModel, save_model

  from .library_reference import reference_of

  target = pathlib.Path(folder).absolute()
  check_output(target, force)
  fields = metadata_of(conversion, labels=labels, mean=mean, std=std, align=align)
  reference = reference_of(conversion, SavedModel(conversion.model, **fields))
  with staging_folder(target) as staging:
    written = staging / "model"
    documents = {REPORT_FILE: conversion.report.as_dict()}
    save_model(
      written,
      conversion.model,
      documents=documents,
      weights_format=weights_format,
      reference=reference,
      **fields,
    )
    if target.exists():
      os.replace(target, staging / "old")
    os.replace(written, target)


def metadata_of(
  conversion: Conversion,
  *,
  labels: list[str] | None = None,
  mean: list[float] | None = None,
  std: list[float] | None = None,
  align: bool = False,
) -> "ModelFields":
  """Metadata of a converted model.

  Args:
    conversion: the model; its report notes classes without names.
    labels, mean, std, align: as in `save_conversion`.

  Returns:
    the fields of `model.json`.

  Raises:
    ConversionError: the labels do not match the head.
  """
  from jax_me.faces.detector import DEFAULT_DETECTOR
  from jax_me.image_preparation import ImagePreparation
  from jax_me.models.registry import default_arguments

  arguments = default_arguments(conversion.name) | conversion.arguments
  report, preprocessing = conversion.report, conversion.preprocessing
  classes = arguments.get("num_classes")
  if labels is not None and len(labels) != classes:
    raise ConversionError(
      f"{len(labels)} labels are given for {classes or 'no'} classes",
      remedy="give one name per class of the head, in the order of its logits",
    )
  if labels is not None and len(set(labels)) != len(labels):
    raise ConversionError("a label is given twice")
  labels = conversion.labels if labels is None else labels
  if labels is None and classes:
    labels = [str(number) for number in range(classes)]
    report.notes.append("no labels were given: the classes are numbered from 0")
  source = report.source | {
    "detected": report.detected,
    "weights_sha256": report.weights_sha256,
    "fresh": [entry["path"] for entry in report.fresh],
  }
  image_size = arguments["image_size"]
  preparation = ImagePreparation(image_size)
  if preprocessing is not None:
    preparation = preprocessing.preparation(image_size)
    mean, std = mean or preprocessing.mean, std or preprocessing.std
  elif mean is None or std is None:
    report.notes.append("the file says nothing about mean and std: ImageNet's are used")
  return {
    "name": conversion.name,
    "arguments": conversion.arguments,
    "labels": labels,
    "image_size": image_size,
    "mean": mean or IMAGENET_MEAN,
    "std": std or IMAGENET_STD,
    "source": source,
    "alignment": {"align": align, "size": image_size, "detector": DEFAULT_DETECTOR},
    "preparation": preparation,
    "licence": conversion.licence,
  }


def check_output(target: pathlib.Path, force: bool) -> None:
  """Raises ConversionError unless the output folder may be written."""
  if target.exists() and not target.is_dir():
    raise ConversionError(f"{target} is a file", remedy="choose another --output")
  if not target.exists() or not any(target.iterdir()):
    return
  if not force:
    raise ConversionError(
      f"{target} is not empty", remedy="choose another --output, or replace it with --force"
    )
  if not (target / "model.json").is_file():
    raise ConversionError(
      f"{target} contains something other than a model; --force replaces only model folders",
      remedy="choose another --output",
    )
