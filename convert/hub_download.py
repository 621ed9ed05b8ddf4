"""Download of a model from the Hugging Face hub: only the files that are read.

The package huggingface_hub keeps the files in its own cache (`HF_HOME`), one folder per commit.
"""

import pathlib
import re
import types

from jax_me.manifest import MANIFEST_FILE, DamagedFolder, read_manifest

from .errors import ConversionError, UnavailableWeights
from .hub_folder import (
  CARD_FILE,
  CONFIG_FILE,
  MODEL_FILE,
  PROCESSOR_FILES,
  WEIGHT_FILES,
  index_places,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def hub_commit(repository: str, revision: str, *, offline: bool = False) -> str:
  """The commit of a branch, tag or commit of a repository.

  Args:
    repository: "OWNER/NAME".
    revision: branch, tag or commit.
    offline: take the newest one in the cache. So does a computer without network.

  Returns:
    its 40 hexadecimal digits.

  Raises:
    UnavailableWeights: no such repository or revision, neither config.json nor model.json, or no
      network.
  """
  if _COMMIT.fullmatch(revision):
    return revision
  for name in (CONFIG_FILE, MODEL_FILE):
    if (found := _find(repository, name, revision, offline)) is not None:
      return found.parent.name
  raise _no_config(repository)


def download_hub_folder(repository: str, commit: str, *, offline: bool = False) -> pathlib.Path:
  """Downloads the weights and JSON files of a model, as far as they are not in the cache.

  Args:
    repository: "OWNER/NAME".
    commit: from `hub_commit`.
    offline: use the cache only.

  Returns:
    The folder of the commit in the cache.

  Raises:
    UnavailableWeights: no weights in a format of timm or transformers, no network, or a part of the
      model is not in the cache.
  """
  config = _find(repository, CONFIG_FILE, commit, offline)
  if config is None:
    raise _no_config(repository)
  for name in PROCESSOR_FILES:
    _find(repository, name, commit, offline)
  try:
    _find(repository, CARD_FILE, commit, offline)
  except UnavailableWeights:
    if not offline:
      raise
  unknown: UnavailableWeights | None = None
  for name in WEIGHT_FILES:
    try:
      found = _find(repository, name, commit, offline)
    except UnavailableWeights as error:
      if not offline:
        raise
      unknown = error  # Another program may have downloaded the other format.
      continue
    if found is not None:
      try:
        shards = sorted(set(index_places(found).values())) if name.endswith(".json") else []
      except ConversionError as error:
        raise UnavailableWeights(f"{repository}: {error}") from error
      for shard in shards:
        if _find(repository, shard, commit, offline) is None:
          raise UnavailableWeights(f"{repository} lacks {shard}, which {name} lists")
      return config.parent
  raise unknown or UnavailableWeights(
    f"{repository} has none of {', '.join(WEIGHT_FILES)}; weights in other files: download the "
    "file, and give its path"
  )


def download_model_folder(
  repository: str, commit: str, *, offline: bool = False
) -> pathlib.Path | None:
  """Downloads a model folder of jax_me: the files that its manifest lists, and no others.

  Args:
    repository, commit, offline: as in `download_hub_folder`.

  Returns:
    The folder of the commit in the cache; None if the repository has no model.json. The files are
    compared with their checksums when it is loaded.

  Raises:
    UnavailableWeights: it has no manifest, one that lists files outside the folder or files that
      the repository lacks, or no network.
  """
  try:
    model = _find(repository, MODEL_FILE, commit, offline)
  except UnavailableWeights:
    if not offline:
      raise
    return None
  if model is None:
    return None
  if _find(repository, MANIFEST_FILE, commit, offline) is None:
    raise UnavailableWeights(
      f"{repository} has a {MODEL_FILE} but no {MANIFEST_FILE}: it is no complete model folder"
    )
  try:
    listed = read_manifest(model.parent)
  except DamagedFolder as error:
    raise UnavailableWeights(f"{repository}: {error}") from error
  for name in listed:
    parts = pathlib.PurePosixPath(name).parts
    if ".." in parts or pathlib.PureWindowsPath(name).anchor or "\\" in name:
      raise UnavailableWeights(f"{repository}: {MANIFEST_FILE} lists a file outside: {name[:200]}")
    if _find(repository, name, commit, offline) is None:
      raise UnavailableWeights(f"{repository} lacks {name}, which {MANIFEST_FILE} lists")
  return model.parent


def stored_sha256(path: pathlib.Path) -> str:
  """SHA-256 that the hub states of a file in the cache; "" for small files, which have none."""
  name = path.resolve().name
  return name if _SHA256.fullmatch(name) else ""


def _no_config(repository: str) -> UnavailableWeights:
  return UnavailableWeights(
    f"{repository} has no {CONFIG_FILE}: it is no model of timm or transformers, nor one of jax_me "
    f"({MODEL_FILE}). Download its weights, and give the path of the file"
  )


def _find(repository: str, file: str, revision: str, offline: bool) -> pathlib.Path | None:
  """A file in the cache, downloaded if it is not there; None if the repository lacks it."""
  hub = import_hub()
  try:
    if offline or _COMMIT.fullmatch(revision):
      known = hub.try_to_load_from_cache(repository, file, revision=revision)
      if known is not None:  # Its path, or a mark that the repository does not have it.
        return pathlib.Path(known) if isinstance(known, str) else None
      if offline:
        raise UnavailableWeights(
          f"{file} of {repository} ({revision}) is not in the cache; run once with network access, "
          "without --offline and HF_HUB_OFFLINE"
        )
    return pathlib.Path(hub.hf_hub_download(repository, file, revision=revision))
  except UnavailableWeights:
    raise
  except Exception as error:  # many types, of huggingface_hub and of its HTTP library
    if _is_missing_file(hub, error):
      return None
    raise UnavailableWeights(_reason(hub, error, repository, file, revision)) from error


def import_hub() -> types.ModuleType:
  """The package huggingface_hub; UnavailableWeights if it is not installed."""
  try:
    import huggingface_hub
    import huggingface_hub.errors
  except ModuleNotFoundError as error:
    raise UnavailableWeights(
      f'models of the hub need the package {error.name}: pip install "jax_me[hub]"'
    ) from error
  return huggingface_hub


def _is_missing_file(hub: types.ModuleType, error: Exception) -> bool:
  errors = hub.errors
  return isinstance(error, errors.EntryNotFoundError) and not isinstance(
    error, errors.LocalEntryNotFoundError
  )


def _reason(
  hub: types.ModuleType, error: Exception, repository: str, file: str, revision: str
) -> str:
  """What went wrong, in one line."""
  errors = hub.errors
  page = f"{hub.constants.ENDPOINT}/{repository}"
  if isinstance(error, errors.GatedRepoError):
    return f"{repository} is given on request: ask on {page}, then log in with `hf auth login`"
  if isinstance(error, errors.RepositoryNotFoundError):
    return f"there is no model {repository} on {hub.constants.ENDPOINT}, or it is private"
  if isinstance(error, errors.RevisionNotFoundError):
    return f"{repository} has no revision {revision!r}: see {page}/commits"
  if isinstance(error, errors.LocalEntryNotFoundError):
    cause = error.__cause__ or error
    return f"{page} cannot be reached, and {file} is not in the cache ({first_line(cause)})"
  return f"{file} of {page} cannot be downloaded ({type(error).__name__}: {first_line(error)})"


def first_line(error: BaseException) -> str:
  """The first line of a message, of at most 200 characters."""
  return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
