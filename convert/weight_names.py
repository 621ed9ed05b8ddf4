"""Names of weights on the Hugging Face hub and of released files, and their local copies.

hf://OWNER/NAME[@REVISION]  a model of timm or transformers; needs the package huggingface_hub
timm://NAME[@REVISION]      hf://timm/NAME
release://FILE              a file of `jax_me.models.released_weights`
"""

import dataclasses
import difflib
import os
import pathlib
import re
from typing import TYPE_CHECKING

from jax_me.cache_folder import cache_folder

from .errors import UnavailableWeights
from .file_download import DownloadRecord, download_file
from .hub_download import download_hub_folder, hub_commit, stored_sha256
from .hub_folder import weight_files

if TYPE_CHECKING:
  from jax_me.models.released_weights import ReleasedWeights

HUB, TIMM, RELEASE = "hf", "timm", "release"
OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
# A name that went through pathlib has only one slash.
_NAME = re.compile(rf"({HUB}|{TIMM}|{RELEASE}):/{{1,2}}(.*)", re.DOTALL)
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w-][\w./-]*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class WeightName:
  """A name of weights.

  Attributes:
    text: the name as given.
    repository: "OWNER/NAME" on the hub, "" for a released file.
    revision: branch, tag or commit on the hub.
    release: entry of the table, for a released file.
  """

  text: str
  repository: str = ""
  revision: str = "main"
  release: "ReleasedWeights | None" = None

  def __str__(self) -> str:
    return self.text


@dataclasses.dataclass(frozen=True)
class LocalWeights:
  """Weights on this computer.

  Attributes:
    path: file, or folder of timm or transformers.
    name: as given.
    revision: commit of the hub, or SHA-256 of the released file.
    sha256: of the file, "" when unknown or of several.
  """

  path: pathlib.Path
  name: WeightName
  revision: str
  sha256: str


def parse_weight_name(source: str | os.PathLike) -> WeightName | None:
  """The name of weights that a text is; None for paths.

  Raises:
    UnavailableWeights: it starts like a name, but there is no such released file, or it lacks the
      owner or the name of a model.
  """
  text = os.fspath(source)
  match = _NAME.fullmatch(text)
  if match is None:
    return None
  scheme, rest = match.groups()
  text = f"{scheme}://{rest}"
  if scheme == RELEASE:
    return WeightName(text, release=_released(rest))
  repository, at, revision = rest.partition("@")
  if scheme == TIMM:
    repository = f"timm/{repository}"
  if not _REPOSITORY.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)):
    form = "OWNER/NAME" if scheme == HUB else "NAME"
    raise UnavailableWeights(f"{text} is not of the form {scheme}://{form} or ...@REVISION")
  return WeightName(text, repository, revision or "main")


def _released(file: str) -> "ReleasedWeights":
  from jax_me.models.released_weights import RELEASED_WEIGHTS

  files = {weights.file: weights for weights in RELEASED_WEIGHTS}
  if file not in files:
    near = difflib.get_close_matches(file, files, n=3, cutoff=0.3) or sorted(files)[:3]
    raise UnavailableWeights(
      f"there is no release://{file}; did you mean {', '.join(near)}? All files: docs/weights.md, "
      "or `jax-me models NAME`"
    )
  return files[file]


def revision_of(name: WeightName) -> str:
  """The commit, or the SHA-256 of a released file, which is downloaded if it never was.

  Raises:
    UnavailableWeights: it cannot be found out.
  """
  if name.release is None:
    return hub_commit(name.repository, name.revision, offline=is_offline())
  record = DownloadRecord.read(_download_path(name.release))
  if record is not None and record.sha256 and record.address == name.release.address:
    return record.sha256
  return fetch_weights(name).revision


def fetch_weights(name: WeightName, revision: str | None = None) -> LocalWeights:
  """Weights by name on this computer, downloaded if they are not there.

  Args:
    name: the weights.
    revision: result of `revision_of`; None finds it out.

  Returns:
    Their place and origin.

  Raises:
    UnavailableWeights: they cannot be downloaded.
  """
  if name.release is None:
    commit = revision or revision_of(name)
    folder = download_hub_folder(name.repository, commit, offline=is_offline())
    files, _ = weight_files(folder)
    sha256 = stored_sha256(files[0]) if len(files) == 1 else ""
    return LocalWeights(folder, name, commit, sha256)
  release, path = name.release, _download_path(name.release)
  record = DownloadRecord.read(path)
  if is_offline() and (record is None or not record.describes(release.address, path)):
    raise UnavailableWeights(f"{name} is not in {path.parent}, and downloads are off (--offline)")
  sha256 = download_file(release.address, path, md5=release.md5)
  return LocalWeights(path, name, sha256, sha256)


def _download_path(release: "ReleasedWeights") -> pathlib.Path:
  return cache_folder() / "downloads" / release.file


def is_offline() -> bool:
  """Whether downloads are switched off, by `go_offline` or `HF_HUB_OFFLINE`."""
  return os.environ.get(OFFLINE_VARIABLE, "").upper() in ("1", "ON", "YES", "TRUE")


def go_offline() -> None:
  """Switches downloads off, for this process and those that it starts."""
  os.environ[OFFLINE_VARIABLE] = "1"
