"""The cache of compiled programs of the command line."""

import os
import subprocess
import sys

import pytest

from jax_me import compilation_cache
from jax_me.cache_folder import CACHE_VARIABLE
from jax_me.compilation_cache import FOLDER_VARIABLE, SECONDS_VARIABLE, use_compilation_cache


@pytest.fixture
def environment(monkeypatch, tmp_path):
  monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
  for name in (FOLDER_VARIABLE, SECONDS_VARIABLE):
    monkeypatch.setenv(name, "")  # Restored after the test.
    monkeypatch.delenv(name)


def test_a_second_process_uses_the_programs_of_the_first(environment, tmp_path):
  code = (
    "from jax_me.compilation_cache import use_compilation_cache; use_compilation_cache();"
    "import jax, jax.numpy as jnp; jax.config.update('jax_log_compiles', True);"
    "jax.config.update('jax_explain_cache_misses', True);"
    "from jax._src import monitoring;"
    "events = []; monitoring.register_event_listener(lambda name, **_: events.append(name));"
    "print(jax.jit(lambda x: jnp.sort(x @ x.T, 0).sum())(jnp.ones((3, 4))));"
    "print(sum('cache_hits' in name for name in events))"
  )
  variables = {**os.environ, SECONDS_VARIABLE: "0", "JAX_ENABLE_COMPILATION_CACHE": "true"}
  outputs = [
    subprocess.run(
      [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    ).stdout.split()
    for _ in range(2)
  ]
  assert outputs[0][0] == outputs[1][0]
  assert int(outputs[0][1]) == 0 < int(outputs[1][1])


def test_the_folder_of_the_user_is_kept(environment, monkeypatch):
  monkeypatch.setenv(FOLDER_VARIABLE, "elsewhere")
  use_compilation_cache()
  assert os.environ[FOLDER_VARIABLE] == "elsewhere"


def test_the_oldest_programs_are_deleted(environment, monkeypatch):
  use_compilation_cache()
  folder = os.environ[FOLDER_VARIABLE]
  for age, name in enumerate(("new", "middle", "old")):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
      file.write(bytes(1000))
    os.utime(path, (10**9 - age, 10**9 - age))
  monkeypatch.delenv(FOLDER_VARIABLE)
  monkeypatch.setattr(compilation_cache, "MAX_BYTES", 2000)
  use_compilation_cache()
  assert sorted(os.listdir(folder)) == ["middle", "new"]


def test_a_folder_that_cannot_be_made_is_no_error(environment, monkeypatch, tmp_path):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
  use_compilation_cache()
  assert FOLDER_VARIABLE not in os.environ
