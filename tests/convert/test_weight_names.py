"""Weights by name: hub models and released files on a local server, cache, offline, errors."""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys

import pytest

from convert.errors import ConversionError, UnavailableWeights
from convert.model_source import open_model
from convert.torch_to_flax import main, read_checkpoint
from convert.weight_names import fetch_weights, parse_weight_name, revision_of
from jax_me.cache_folder import cache_folder
from jax_me.models import released_weights
from jax_me.models.model_folder import load_model
from tests.helpers.checkpoint_files import TINY_VIT, save_safetensors, vit_arrays
from tests.helpers.file_server import COMMIT, ServedFile, file_server, serve_folder, serve_on_hub
from tests.helpers.hub_models import hub_cases, hub_model_folder, write_case
from tests.helpers.local_hub import use_endpoint

CARD = b"---\nlicense: apache-2.0\ntags: [vision]\n---\n# A model\n"
NAME = "hf://someone/faces"
OTHER_COMMIT = "f" * 40


@pytest.fixture(scope="module")
def vit_files(tmp_path_factory):
  """{name: content} of a ViT of transformers with more files than the conversion needs."""
  folder = hub_model_folder(tmp_path_factory.mktemp("repository") / "vit")
  files = {path.name: path.read_bytes() for path in folder.iterdir()}
  return files | {
    "README.md": CARD,
    "pytorch_model.bin": b"not needed",
    "training_args.bin": b"not needed",
  }


def downloaded(server):
  """Names of the files that were fetched."""
  return sorted(path.rpartition("/")[2] for method, path, _ in server.requests if method == "GET")


def assert_refused(words, name=NAME):
  with pytest.raises(UnavailableWeights) as error:
    fetch_weights(parse_weight_name(name))
  assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("text", "repository", "revision"),
  [
    ("hf://someone/faces", "someone/faces", "main"),
    ("hf://Some-one/vit_b.16@v1.0", "Some-one/vit_b.16", "v1.0"),
    ("hf://someone/faces@refs/pr/3", "someone/faces", "refs/pr/3"),
    ("timm://vit_base_patch16_224.mae", "timm/vit_base_patch16_224.mae", "main"),
    (pathlib.PurePosixPath("hf://someone/faces"), "someone/faces", "main"),
  ],
)
def test_names_of_hub_models(text, repository, revision):
  name = parse_weight_name(text)
  assert (name.repository, name.revision) == (repository, revision)


@pytest.mark.parametrize("text", ["model", "/home/hf/model", "a.pth", pathlib.Path("hf/model")])
def test_paths_are_no_names(text):
  assert parse_weight_name(text) is None


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("hf://faces", "hf://OWNER/NAME"),
    ("hf://a/b/c", "hf://OWNER/NAME"),
    ("hf://../../etc", "hf://OWNER/NAME"),
    ("hf://a/b@", "@REVISION"),
    ("hf://a/b@../c", "@REVISION"),
    ("timm://", "timm://NAME"),
    ("timm://a/b", "timm://NAME"),
    ("release://81.5_T2T_ViT_14", "did you mean 81.5_T2T_ViT_14.pth.tar"),
    ("release://", "docs/weights.md"),
  ],
)
def test_malformed_names(text, words):
  with pytest.raises(UnavailableWeights) as error:
    parse_weight_name(text)
  assert words in str(error.value)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
  monkeypatch.setenv("JAX_ME_CACHE", str(tmp_path))
  assert cache_folder() == tmp_path
  monkeypatch.delenv("JAX_ME_CACHE")
  monkeypatch.setattr("sys.platform", "linux")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
  assert cache_folder() == tmp_path / "xdg" / "jax_me"


def test_only_the_files_of_the_conversion_are_downloaded(local_hub, vit_files):
  serve_on_hub(local_hub, "someone/faces", vit_files)
  weights = fetch_weights(parse_weight_name(NAME))
  wanted = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
  assert [name for name in downloaded(local_hub) if "." in name] == wanted
  assert weights.revision == COMMIT
  assert weights.sha256 == hashlib.sha256(vit_files["model.safetensors"]).hexdigest()
  local_hub.requests.clear()
  assert fetch_weights(parse_weight_name(NAME)) == weights
  assert downloaded(local_hub) == []


def test_torch_weights_where_there_are_no_others(local_hub, vit_files):
  files = {name: vit_files[name] for name in ("config.json", "pytorch_model.bin")}
  serve_on_hub(local_hub, "someone/faces", files)
  weights = fetch_weights(parse_weight_name(NAME))
  assert (weights.path / "pytorch_model.bin").is_file()


def test_shards_are_those_of_the_index(local_hub, tmp_path):
  folder = write_case(hub_cases()["transformers_vit"], "three or more shards", tmp_path / "vit")
  files = {path.name: path.read_bytes() for path in folder.iterdir()}
  serve_on_hub(local_hub, "someone/faces", files)
  assert read_checkpoint(NAME).metadata["files"] == 3
  index = json.loads(files["model.safetensors.index.json"])
  for owner, place, words in (
    ("a", "../../../../secret", "no weight_map"),
    ("b", "model-00009-of-00009.safetensors", "lacks model-00009"),
  ):
    changed = {**index, "weight_map": {"key": place}}
    files["model.safetensors.index.json"] = json.dumps(changed).encode()
    serve_on_hub(local_hub, f"{owner}/faces", files)
    assert_refused(words, f"hf://{owner}/faces")


def test_a_revision(local_hub, vit_files):
  serve_on_hub(local_hub, "someone/faces", vit_files, commit=OTHER_COMMIT, branch="v1.0")
  assert revision_of(parse_weight_name(f"{NAME}@v1.0")) == OTHER_COMMIT
  local_hub.requests.clear()
  assert revision_of(parse_weight_name(f"{NAME}@{COMMIT}")) == COMMIT
  assert not local_hub.requests


def test_offline_the_cache_is_used(local_hub, vit_files, monkeypatch):
  serve_on_hub(local_hub, "someone/faces", vit_files)
  weights = fetch_weights(parse_weight_name(NAME))
  local_hub.requests.clear()
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert fetch_weights(parse_weight_name(NAME)) == weights
  assert not local_hub.requests
  assert_refused("config.json of someone/other (main) is not in the cache", "hf://someone/other")


def test_offline_a_part_of_a_model_is_not_taken_for_it(local_hub, vit_files, monkeypatch):
  """Another program may have downloaded the weights alone."""
  import huggingface_hub

  serve_on_hub(local_hub, "someone/faces", vit_files)
  for name in ("config.json", "model.safetensors"):
    huggingface_hub.hf_hub_download("someone/faces", name)
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert_refused("preprocessor_config.json of someone/faces")
  monkeypatch.delenv("HF_HUB_OFFLINE")
  assert fetch_weights(parse_weight_name(NAME)).path.is_dir()


def test_without_network_the_cache_is_used(local_hub, vit_files, monkeypatch):
  serve_on_hub(local_hub, "someone/faces", vit_files)
  weights = fetch_weights(parse_weight_name(NAME))
  use_endpoint(monkeypatch, "http://127.0.0.1:9")
  monkeypatch.setattr("time.sleep", lambda _: None)  # between the attempts of huggingface_hub
  assert fetch_weights(parse_weight_name(NAME)) == weights
  assert_refused("cannot be reached, and config.json is not in the cache", "hf://someone/other")


@pytest.mark.parametrize(
  ("code", "status", "words"),
  [
    ("RepoNotFound", 404, "there is no model someone/faces"),
    ("GatedRepo", 403, "is given on request: ask on"),
    ("RevisionNotFound", 404, "has no revision 'main'"),
    ("EntryNotFound", 404, "has no config.json"),
  ],
)
def test_what_the_hub_refuses(local_hub, code, status, words):
  headers = {"X-Error-Code": code, "X-Repo-Commit": COMMIT}
  path = "/someone/faces/resolve/main/config.json"
  local_hub.files[path] = ServedFile(b"", status=status, headers=headers)
  local_hub.missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
  assert_refused(words)


def test_a_repository_without_weights(local_hub, vit_files):
  serve_on_hub(local_hub, "someone/faces", {"config.json": vit_files["config.json"]})
  assert_refused("has none of model.safetensors")


def test_without_the_package_of_the_hub(weights_cache, monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  assert_refused('pip install "jax_me[hub]"')


def test_a_damaged_download_is_noticed(local_hub, vit_files):
  serve_on_hub(local_hub, "someone/faces", vit_files)
  path = fetch_weights(parse_weight_name(NAME)).path / "model.safetensors"
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.resolve().write_bytes(content)
  with pytest.raises(UnavailableWeights, match="damaged after the download; delete it"):
    read_checkpoint(NAME)


def test_a_hub_model_is_converted_once(local_hub, vit_files, weights_cache, capsys):
  serve_on_hub(local_hub, "someone/faces", vit_files)
  first = open_model(NAME)
  assert "licence: apache-2.0" in capsys.readouterr().err
  assert (
    first.labels == ["angry", "happy", "neutral", "sad", "surprise"] and first.mean == [0.5] * 3
  )
  assert first.source["file"] == NAME and first.source["metadata"]["revision"] == COMMIT
  local_hub.requests.clear()
  again = open_model(NAME)
  assert again.source == first.source and not capsys.readouterr().err
  assert [method for method, _, _ in local_hub.requests] == ["HEAD"]
  # A new commit is another model; a damaged folder is converted again.
  serve_on_hub(local_hub, "someone/faces", vit_files, commit=OTHER_COMMIT)
  assert open_model(NAME).source["metadata"]["revision"] == OTHER_COMMIT
  (folder,) = (weights_cache / "models/hub/someone/faces").glob(f"{OTHER_COMMIT[:12]}_*/")
  (folder / "model.json").write_text("{}")
  assert open_model(NAME).labels == first.labels
  assert "It is converted again" in capsys.readouterr().err and load_model(folder)


def test_timm_names(local_hub, tmp_path):
  folder = write_case(hub_cases()["timm_vit"], "model.safetensors", tmp_path / "vit")
  serve_folder(local_hub, "timm/vit_tiny_patch16_224.augreg", folder)
  assert open_model("timm://vit_tiny_patch16_224.augreg").name == "vit_tiny_patch16"


@pytest.fixture
def release(weights_cache, tmp_path, monkeypatch):
  """A small released file on a local server, as an entry of the table."""
  content = save_safetensors(vit_arrays(5), tmp_path / "tiny.safetensors").read_bytes()
  with file_server() as server:
    server.files["/tiny.pth"] = ServedFile(content)
    entry = dataclasses.replace(
      released_weights.RELEASED_WEIGHTS[0],
      file="tiny.pth",
      model="vit_tiny_patch16",
      address=f"{server.address}/tiny.pth",
      arguments=TINY_VIT,
      md5=hashlib.md5(content).hexdigest()[:6],
    )
    monkeypatch.setattr(released_weights, "RELEASED_WEIGHTS", (entry,))
    yield server


def test_a_released_file_is_the_model_of_the_table(release, weights_cache, capsys, monkeypatch):
  saved = open_model("release://tiny.pth")
  assert saved.name == "vit_tiny_patch16" and saved.arguments["num_heads"] == 2
  assert saved.licence == "Clear BSD" and saved.preparation.resize_to == 31  # 28 / 0.9
  assert "licence: Clear BSD" in capsys.readouterr().err
  # The converted model is enough: the download may be deleted.
  (weights_cache / "downloads/tiny.pth").unlink()
  release.requests.clear()
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert open_model("release://tiny.pth").source == saved.source and not release.requests
  assert_refused("downloads are off", "release://tiny.pth")


def test_the_command_takes_a_name(release, tmp_path, capsys):
  out = tmp_path / "out"
  command = ["release://tiny.pth", "--output", str(out), "--labels", "a,b,c,d,e"]
  assert main(command) == 0
  printed = capsys.readouterr().out
  assert "release://tiny.pth" in printed and "licence: Clear BSD" in printed
  assert load_model(out).labels == list("abcde")
  assert main(["--checkpoint", *command, "--force", "--num_classes", "3", "--labels", "a,b,c"]) == 0
  assert load_model(out).labels == list("abc")


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    ([], "give one source"),
    (["a.pth", "--checkpoint", "b.pth"], "give one source"),
    (["release://tiny.pt"], "did you mean tiny.pth"),
    (["release://tiny.pth", "--offline"], "downloads are off"),
  ],
)
def test_errors_of_the_command(release, tmp_path, capsys, monkeypatch, arguments, words):
  monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # So that the value of --offline is undone.
  assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
  assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_wrong_file_is_not_converted(release):
  release.files["/tiny.pth"].content += b" "
  with pytest.raises(ConversionError, match="its project publishes"):
    open_model("release://tiny.pth")


@pytest.mark.skipif(not os.environ.get("JAX_ME_TEST_NETWORK"), reason="needs the network")
def test_the_network(tmp_path, monkeypatch):
  """JAX_ME_TEST_NETWORK=1 pytest -k network: downloads 25 MB."""
  monkeypatch.setenv("JAX_ME_CACHE", str(tmp_path))
  assert open_model("release://71.7_T2T_ViT_7.pth.tar").name == "t2t_vit_7"
  assert open_model("timm://vit_tiny_patch16_224.augreg_in21k_ft_in1k").image_size == 224
