"""Under what a run was made, for whoever has to repeat it: `run.json`."""

import importlib.metadata
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax

import jax_me

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "dlib-bin")


def circumstances(config: Mapping[str, Any]) -> dict[str, Any]:
  """Command, recipe, code, versions and devices of this process, as JSON values."""
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


def git_revision(folder: pathlib.Path) -> dict[str, Any] | None:
  """{"revision", "changed"} of the checkout that holds `folder`; None outside of one.

  `changed` tells whether tracked files differ from that revision.
  """

  def git(*arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

  try:
    # A jax_me installed inside some other project's checkout is not of its revision.
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
