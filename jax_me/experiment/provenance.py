"""Provenance of a run (`run.json`): command, recipe, code revision, versions and devices."""

import importlib.metadata
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping

import jax

import jax_me
from jax_me.training.checkpoint import JsonValue

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "dlib-bin")


def provenance(config: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
  """Command, recipe, code revision, versions and devices of this process, as JSON values."""
  devices = jax.devices()
  return {
    "command": sys.argv,
    "config": dict(config),
    "git": git_revision(pathlib.Path(jax_me.__file__).parent),
    "versions": {
      "jax_me": jax_me.__version__,
      "python": platform.python_version(),
      **{name: version for name in PACKAGES if (version := _version(name))},
    },
    "platform": jax.default_backend(),
    "devices": {"kind": devices[0].device_kind, "count": len(devices)},
    "processes": jax.process_count(),
  }


def git_revision(folder: pathlib.Path) -> dict[str, str | bool] | None:
  """{"revision", "changed"} of the git checkout that contains `folder`; None without one.

  `changed` is True if tracked files differ from that revision.
  """

  def git(*arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

  try:
    # An installation inside the checkout of another project does not have its revision.
    git("ls-files", "--error-unmatch", str(folder / "__init__.py"))
    return {
      "revision": git("rev-parse", "HEAD").strip(),
      "changed": bool(git("status", "--porcelain", "--untracked-files=no").strip()),
    }
  except (OSError, subprocess.SubprocessError):
    return None


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None
