"""Preparation of a dataset: opens a finished build, or generates it first."""

import logging
import os
import pathlib

from google.protobuf import json_format

from jax_me.beam.beam_runner import BeamRunner
from jax_me.cpu_cores import available_cores
from jax_me.data.labels import normalize_label
from jax_me.datasets.generation.base_builder import FaceDataset, FaceDatasetConfig, OptionsT
from jax_me.datasets.generation.checksums import (
  DamagedDataset,
  damage_remedy,
  verify_dataset,
)
from jax_me.datasets.generation.fingerprint import find_builds, fingerprint_hash, make_options
from jax_me.datasets.generation.generate import generate
from jax_me.datasets.generation.source_files import following_links
from jax_me.files import exclusive_lock

logger = logging.getLogger(__name__)

BUSY = "another process is generating this dataset (%s): waiting"


def prepare_dataset(
  cls: type[FaceDataset],
  *,
  data_dir: str | os.PathLike[str],
  manual_dir: str | os.PathLike[str] | None = None,
  workers: int | None = None,
  follow_links: bool = False,
  beam: BeamRunner | None = None,
  **options: object,
) -> FaceDataset:
  """Implements `jax_me.datasets.catalog.prepare` for a builder class.

  Args:
    cls: the builder.
    data_dir, manual_dir, workers, follow_links: as in `catalog.prepare`.
    beam: runner of Apache Beam that runs the tasks, instead of `workers`.
    **options: fields of `cls.Options`.

  Returns:
    The builder of a complete dataset.

  Raises:
    ValueError: unknown option, unusable manual_dir, no usable image, or a damaged dataset.
    OSError: data_dir cannot be written, or the disk is full.
    PipelineFailed: the runner gave up.
  """
  folder = pathlib.Path(data_dir).expanduser()
  if beam is not None:  # the workers have another working folder
    folder = folder.absolute()
    manual_dir = manual_dir and pathlib.Path(manual_dir).expanduser().absolute()
  with following_links(follow_links):
    return _prepare(cls, folder, manual_dir, workers, beam, options)


def _prepare(
  cls: type[FaceDataset],
  folder: pathlib.Path,
  manual_dir: str | os.PathLike[str] | None,
  workers: int | None,
  beam: BeamRunner | None,
  options: dict[str, object],
) -> FaceDataset:
  checked = make_options(cls, options)
  needs_files = cls.MANUAL_DOWNLOAD_INSTRUCTIONS is not None
  if manual_dir is not None and not needs_files:
    raise ValueError(f"dataset {cls.name} reads no files of yours; leave out manual_dir")
  if needs_files and manual_dir is None:
    return _open(cls, folder, _only_build(cls, folder, checked, "detector" not in options))
  source = None
  if manual_dir is not None:
    source = pathlib.Path(manual_dir).expanduser()
    if not source.is_dir():
      raise ValueError(
        f"manual_dir {source} of dataset {cls.name} is not a folder. "
        f"{cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
      )
    checked = cls.resolve_options(checked, source)
  config = FaceDatasetConfig(
    name="",
    version=cls.VERSION,
    options=checked,
    labels=tuple(cls.label_names(checked, source)),
    fingerprint="" if source is None else cls.fingerprint(checked, source),
    manual_dir=source,
    workers=available_cores() if workers is None else workers,
    beam=beam,
  )
  config.name = f"{checked.title}-{fingerprint_hash(cls, config)}"
  target = _folder(cls, folder, config)
  if not _is_complete(target):
    for other in _find_builds(cls, folder, checked, "detector" not in options):
      if other.fingerprint == config.fingerprint and _same_labels(other, config):
        return _open(cls, folder, other)
    lock = folder / cls.name / f".{config.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(lock, lambda: logger.info(BUSY, lock)):
      # Another process may have generated it in the meantime.
      if not _is_complete(target):
        logger.info("generating dataset %s in %s", cls.name, target)
        generate(cls(data_dir=folder, config=config))
        logger.info("dataset %s is ready in %s", cls.name, target)
  return _open(cls, folder, config)


def _folder(
  cls: type[FaceDataset], data_dir: pathlib.Path, config: FaceDatasetConfig
) -> pathlib.Path:
  return data_dir / cls.name / str(config.name) / str(cls.VERSION)


def _open(
  cls: type[FaceDataset[OptionsT]], data_dir: pathlib.Path, config: FaceDatasetConfig
) -> FaceDataset[OptionsT]:
  """Opens a complete dataset after a comparison with its checksums."""
  folder = _folder(cls, data_dir, config)
  verify_dataset(folder)
  try:
    return cls(data_dir=data_dir, config=config)
  except (OSError, ValueError, KeyError, TypeError, json_format.Error) as error:
    raise DamagedDataset(f"{folder} cannot be read ({error}). {damage_remedy(folder)}") from error


def _only_build(
  cls: type[FaceDataset[OptionsT]], folder: pathlib.Path, options: OptionsT, any_detector: bool
) -> FaceDatasetConfig:
  """Finds the one build with the given options, for use without the source files."""
  found = _find_builds(cls, folder, options, any_detector)
  if not found:
    raise ValueError(
      f"dataset {cls.name} needs manual_dir: nothing was built with these options in {folder}. "
      f"{cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  if len(found) > 1:
    names = ", ".join(str(config.name) for config in found)
    raise ValueError(
      f"dataset {cls.name}: {len(found)} builds in {folder} have these options ({names}); "
      "give manual_dir to select one"
    )
  return found[0]


def _find_builds(
  cls: type[FaceDataset[OptionsT]], folder: pathlib.Path, options: OptionsT, any_detector: bool
) -> list[FaceDatasetConfig]:
  """Builds with the given options; without any, those of version 0.1 that differ in the detector.

  A run that was started with a dataset of version 0.1 thus goes on with it, unless the option
  `detector` is given.
  """
  found = find_builds(cls, folder, options)
  if found or not any_detector:
    return found
  found = find_builds(cls, folder, options, earlier=True)
  for config in found:
    logger.info("dataset %s: %s is of version 0.1, aligned with HOG", cls.name, config.name)
  return found


def _same_labels(one: FaceDatasetConfig, other: FaceDatasetConfig) -> bool:
  """Whether the label names differ at most in their order and spelling.

  Version 0.1 stored "half_smile" for what is "half smile" now. Such a build is opened with the
  names that it was built with; all comparisons of names go through `normalize_label`.
  """
  return sorted(map(normalize_label, one.labels)) == sorted(map(normalize_label, other.labels))


def _is_complete(folder: pathlib.Path) -> bool:
  """Whether the dataset exists; its folder gets its final name when everything is written."""
  if not folder.exists():
    return False
  if not (folder / "dataset_info.json").is_file():
    raise ValueError(f"{folder} is not a complete dataset; delete that folder and try again")
  return True
