"""Preparation of an experiment: dataset, folds, model and training step of a recipe."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jax_me.data.clip_inputs.flow_rest import describe_rest
from jax_me.data.device_images import place_images
from jax_me.data.folds import Fold, make_folds, with_validation
from jax_me.data.image_store import ImageStore
from jax_me.data.index import ExampleIndex
from jax_me.datasets import catalog
from jax_me.datasets.generation.source_files import following_links
from jax_me.datasets.labeled_folder.builder import LabeledImages
from jax_me.datasets.labeled_folder.label_check import check_labels
from jax_me.experiment.experiment import Experiment, crops_stored
from jax_me.experiment.fold_names import NAMED_AFTER, check_fold_names
from jax_me.image_preparation import AREA, ImagePreparation
from jax_me.models.input_size import check_input_size
from jax_me.models.model_folder import SavedModel
from jax_me.models.saved_model import ALL, FINAL
from jax_me.training import sharding
from jax_me.training.program import make_program

CHECKED_FLOW_IMAGES = 1000

logger = logging.getLogger(__name__)


def split_folds(config: ConfigDict, index: ExampleIndex) -> list[Fold]:
  """The folds of `data.split`; with `data.fold` only that one.

  Raises:
    ValueError: `data.fold` is out of range, the dataset cannot be split this way, or a fold has an
      impossible name.
  """
  data = config.data
  if data.split == "none":
    folds = [_everybody(index, ALL)]
  else:
    folds = make_folds(
      index,
      data.split,
      folds=data.folds,
      holdout_share=data.holdout,
      seed=config.seed,
      train=tuple(data.train_splits),
      test=tuple(data.test_splits),
    )
  if data.split in NAMED_AFTER:
    check_fold_names([fold.name for fold in folds], data.split)
  folds = [_hold_out(config, index, fold) for fold in folds]
  if data.fold < 0:
    return folds
  if data.fold >= len(folds):
    raise ValueError(f"data.fold={data.fold} does not exist: there are {len(folds)}, from 0")
  return [folds[data.fold]]


def _check_source(config: ConfigDict) -> None:
  """Raises ValueError for a folder of images whose labels, people or databases are of no use."""
  data = config.data
  if config.task != "classify" or data.name != LabeledImages.name or not data.manual_dir:
    return
  folder = pathlib.Path(data.manual_dir).expanduser()
  if not folder.is_dir():
    return  # The builder says so.
  needed = {"kfold": data.folds, "step": data.folds, "holdout": 2, "loso": 2}
  with following_links(data.follow_links):
    images = check_labels(
      folder,
      labels=data.options.get("labels", ()),
      people=needed.get(data.split, 0),
      allow_rare=data.allow_rare_labels,
    )
  if data.split in NAMED_AFTER:
    named = {getattr(image, field) for image in images for field in NAMED_AFTER[data.split]}
    check_fold_names(sorted(named - {""}), data.split)


def final_fold(config: ConfigDict, index: ExampleIndex) -> Fold:
  """The fold without a test side that `final` trains; a selection of weights holds out subjects."""
  return _hold_out(config, index, _everybody(index, FINAL))


def _everybody(index: ExampleIndex, name: str) -> Fold:
  return Fold(name, np.arange(len(index)), np.empty(0, np.int64))


def _hold_out(config: ConfigDict, index: ExampleIndex, fold: Fold) -> Fold:
  """The fold with the training subjects held out on which `select` chooses the weights."""
  if config.select != "train":
    return fold
  return with_validation(index, fold, config.select_holdout, seed=config.seed)


def prepare(config: ConfigDict, saved: SavedModel | None = None) -> Experiment:
  """Builds the dataset if it is missing, splits it, and prepares model and training step.

  Args:
    config: the checked recipe.
    saved: a model to evaluate, with its own resize and crop of images if it declares them.

  Returns:
    the experiment.

  Raises:
    ValueError: the dataset, folds, model, input size or optimiser of the recipe are impossible.
  """
  # Before the dataset is built, which may take long.
  check_input_size(config.model.name, config.model.image_size, config.model.arguments.to_dict())
  _check_source(config)
  builder = catalog.prepare(
    config.data.name,
    data_dir=config.data.data_dir,
    manual_dir=config.data.manual_dir or None,
    follow_links=config.data.follow_links,
    **config.data.options.to_dict(),
  )
  split = "+".join(sorted(builder.info.splits)) if config.data.split == "official" else "train"
  size = config.model.image_size
  training_images = ImageStore(builder, split, image_size=config.data.read_size or size)
  preparation = _whole_image_preparation(config, dataclasses.asdict(builder.options))
  mean = tuple(config.data.mean)
  if saved is not None:
    mean = tuple(saved.mean)
    # Without options, the model was converted: its evaluation is known only if it is declared.
    if "options" in saved.source or saved.preparation != ImagePreparation(size):
      preparation = saved.preparation
  evaluation_images = training_images
  own = preparation != ImagePreparation(size)
  if own or training_images.image_size != size:
    prepare_image = functools.partial(preparation.apply, mean=mean) if own else None
    evaluation_images = ImageStore(builder, split, image_size=size, prepare=prepare_image)

  index = training_images.index
  if config.task == "classify" and sum(count > 0 for count in index.class_counts().values()) < 2:
    raise ValueError(
      f"{training_images.name} has examples of one class only, and a classifier needs two: "
      f"{', '.join(f'{name} {count}' for name, count in index.class_counts().items())}"
    )
  if config.augment.flow and config.data.name == "labeled_images":
    _check_flow(training_images)

  # A given model is evaluated on its classes where the dataset has no such values.
  if config.affect_weight and training_images.index.affect is None and saved is None:
    raise ValueError(
      f"affect_weight={config.affect_weight:g}, but {training_images.name} has no valence and "
      "arousal: add these columns to labels.csv; of AffectNet, a dataset built by an older version "
      f"has none: delete {builder.data_path} to build it again"
    )

  mesh = sharding.make_mesh(config.mesh.fsdp)
  program, graphdef = make_program(config, mesh, classes=len(training_images.index.label_names))
  return Experiment(
    config=config,
    builder=builder,
    training_images=training_images,
    evaluation_images=evaluation_images,
    preparation=preparation,
    training_source=place_images(
      training_images,
      sharding.batch_sharding(mesh),
      choice="off" if crops_stored(config) else config.data.resident,
      budget=config.data.resident_mib * 2**20,
    ),
    folds=split_folds(config, training_images.index),
    program=program,
    graphdef=graphdef,
  )


def _whole_image_preparation(config: ConfigDict, options: Mapping[str, Any]) -> ImagePreparation:
  """The resize and crop of `eval`; that of face chips if the images are aligned faces."""
  size, wanted = config.model.image_size, config.eval
  preparation = ImagePreparation(size)
  if wanted.interpolation != AREA:
    edge = int(size / wanted.crop)
    preparation = ImagePreparation(size, wanted.resize, edge, wanted.crop, wanted.interpolation)
  # A dataset without the option holds clips, whose images are made of aligned faces.
  if options.get("align", True) and preparation != ImagePreparation(size):
    logger.warning(
      "the images of %s are aligned faces, which are only resized: eval.resize, eval.crop and "
      "eval.interpolation are not used",
      config.data.name,
    )
    return ImagePreparation(size)
  return preparation


def _check_flow(images: ImageStore) -> None:
  """Warns of ready flow images whose zero is elsewhere; those of clips are encoded by jax_me."""
  count = min(len(images), CHECKED_FLOW_IMAGES)
  chosen = np.linspace(0, len(images) - 1, count).astype(int)
  if text := describe_rest(images.images(chosen), list(images.index.file[chosen])):
    logger.warning("%s", text)
