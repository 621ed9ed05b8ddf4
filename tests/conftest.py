"""Shared set-up: four virtual CPU devices, exact matmuls, and the optional local test data."""

import ctypes
import gc
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import psutil
import pytest

from tests.helpers.local_hub import local_hub, weights_cache  # noqa: F401
from tests.helpers.quick_compilation import quickly_compiled

# A program is compiled once for all tests, workers of pytest-xdist, and processes that they start.
# The first process makes the folder; nothing is kept in the home folder.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not IS_WORKER:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax_me_tests_")
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_default_matmul_precision", "highest")
# Traced programs are many small objects: with Python's thresholds, the search for cycles among them
# takes a twentieth of the time.
gc.set_threshold(50_000, 20, 50)
# Silent broadcasting over new axes and silent mixing of dtypes are errors in the tests.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Without a name Windows has no library to open.
LIBC = ctypes.CDLL(None) if os.name == "posix" else None
REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def pytest_configure(config):
  # Grain reads absl flags, which nobody parses under pytest.
  from absl import flags

  flags.FLAGS.mark_as_parsed()


def pytest_unconfigure(config):
  if not IS_WORKER:
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="module")
def quick_compilation():
  """For tests that mostly compile, and whose claims hold for any compiler."""
  with quickly_compiled():
    yield


class ProgramMemory:
  """Releases compiled programs of earlier tests when a worker has grown."""

  GROWTH = 1 << 29

  def __init__(self):
    # What remains when programs are released grows with the imported modules: with a fixed limit
    # they would be released after every test, and compiled again.
    self._remaining = 1 << 30

  def limit(self) -> None:
    if self._has_grown():
      _return_freed_memory()
    if self._has_grown():
      jax.clear_caches()
      gc.collect()
      _return_freed_memory()
      self._remaining = max(self._remaining, psutil.Process().memory_info().rss)

  def _has_grown(self) -> bool:
    return psutil.Process().memory_info().rss > self._remaining + self.GROWTH


PROGRAM_MEMORY = ProgramMemory()


@pytest.fixture(autouse=True)
def _limit_memory():
  yield
  PROGRAM_MEMORY.limit()


def _return_freed_memory():
  """glibc keeps what XLA's threads have freed, several GB after a large model."""
  if hasattr(LIBC, "malloc_trim"):
    LIBC.malloc_trim(0)


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
  return REPOSITORY


@pytest.fixture(scope="session")
def london_faces() -> pathlib.Path:
  """62 people, neutral and happy (CC BY 4.0). Not part of the project: skipped where missing."""
  folder = REPOSITORY.parent / "shared" / "data" / "london_faces"
  if not folder.is_dir():
    pytest.skip(f"optional local test data is missing: {folder}")
  return folder
