"""Options of XLA's compiler: by platform, only where known, and the user's choice first."""

import jax
import numpy as np
import pytest

from jax_me.models import compiler_options as module
from jax_me.models.compiler_options import compiler_options


@pytest.fixture(autouse=True)
def _asked_anew():
  compiler_options.cache_clear()
  yield
  compiler_options.cache_clear()


@pytest.mark.parametrize("platform", ["gpu", "cuda", "tpu"])
def test_other_platforms_have_none(platform):
  assert compiler_options(platform) is None


def test_programs_compile_with_them():
  program = jax.jit(lambda x: x @ x, compiler_options=compiler_options("cpu"))
  np.testing.assert_array_equal(program(np.eye(3, dtype=np.float32)), np.eye(3))


def test_the_environment_comes_first(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"--{module.YNNPACK}=LIBRARY_FUSION_TYPE_DOT")
  assert compiler_options("cpu") is None


def test_releases_that_do_not_know_the_option_get_none(monkeypatch):
  monkeypatch.setattr(module, "YNNPACK", "xla_cpu_option_of_another_release")
  assert compiler_options("cpu") is None
