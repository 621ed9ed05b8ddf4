"""Fixtures: a hub of models on a local server, and empty cache folders."""

import pytest

from tests.helpers.file_server import file_server


def use_endpoint(monkeypatch, address):
  """Lets huggingface_hub look for models at another address."""
  import huggingface_hub.constants as constants

  monkeypatch.setattr(constants, "ENDPOINT", address)
  template = address + "/{repo_id}/resolve/{revision}/{filename}"
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def weights_cache(tmp_path, monkeypatch):
  """The cache folder of jax_me for one test."""
  monkeypatch.setenv("JAX_ME_CACHE", str(tmp_path / "cache"))
  monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
  return tmp_path / "cache"


@pytest.fixture
def local_hub(weights_cache, tmp_path, monkeypatch):
  """A server in the place of huggingface.co, and an empty cache of huggingface_hub."""
  constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub")
  with file_server() as server:
    use_endpoint(monkeypatch, server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield server
