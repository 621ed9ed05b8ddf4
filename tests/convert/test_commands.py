"""Conversion commands: output, errors, and no partial files after errors."""

import json
import subprocess
import sys

import numpy as np
import pytest

from convert import flax_to_torch, torch_to_flax
from convert.errors import ConversionError
from convert.module_arrays import abstract_model, fill_model, model_arrays
from convert.torch_files import read_torch_checkpoint
from jax_me.models.model_folder import load_model
from tests.helpers.checkpoint_files import (
  TINY_MODELS,
  TINY_VIT,
  Payload,
  mae_arrays,
  random_model_arrays,
  save_safetensors,
  save_torch,
  state_dict,
  training_arguments,
  vit_arrays,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def flags(sizes: dict) -> list[str]:
  def text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

  return [part for key, value in sizes.items() for part in (f"--{key}", text(value))]


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY_MODELS)
def test_round_trip_is_bit_exact(tmp_path, capsys, family):
  name, sizes = TINY_MODELS[family]
  arrays = random_model_arrays(name, **sizes)
  source = save_torch({"model": state_dict(arrays, "module.")}, tmp_path / "in.pth")
  folder, back = tmp_path / "deep" / "model", tmp_path / "out.pth"
  command = ["--checkpoint", str(source), "--model", name, "--output", str(folder)]
  assert torch_to_flax.main(command + flags(sizes)) == 0
  printed = capsys.readouterr().out
  assert f"loaded:    {len(arrays)} arrays" in printed
  assert flax_to_torch.main(["--checkpoint", str(folder), "--output", str(back)]) == 0
  returned = read_torch_checkpoint(back)
  assert set(returned) == set(arrays)
  for key, value in arrays.items():
    np.testing.assert_array_equal(returned[key], value, strict=True)
  again = tmp_path / "again"
  command = ["--checkpoint", str(back), "--model", name, "--output", str(again)]
  assert torch_to_flax.main(command + flags(sizes)) == 0
  first, second = model_arrays(load_model(folder).model), model_arrays(load_model(again).model)
  assert set(first) == set(second)
  for path, value in first.items():
    np.testing.assert_array_equal(second[path], value, strict=True)
  assert {p.name for p in tmp_path.iterdir()} == {"in.pth", "deep", "out.pth", "again"}
  assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_folder_records_the_source_of_the_weights(tmp_path, capsys):
  import hashlib

  averaged = state_dict(vit_arrays(seed=1))
  content = {
    "state_dict": state_dict(vit_arrays()),
    "state_dict_ema": averaged,
    "epoch": 7,
    "args": training_arguments(),
  }
  source = save_torch(content, tmp_path / "in.pth", legacy=True)
  folder = tmp_path / "out"
  command = ["--checkpoint", str(source), "--model", "vit_tiny_patch16", "--output", str(folder)]
  command += [*flags(TINY_VIT), "--labels", "a, b,c,d,e,f,g", "--mean", ".5,.4,.3"]
  assert torch_to_flax.main([*command, "--verbose"]) == 0
  assert "blocks.0.attn.qkv.kernel" in capsys.readouterr().out
  saved = load_model(folder)
  assert saved.labels == list("abcdefg")
  assert saved.image_size == 28 and saved.arguments["num_classes"] == 7
  assert saved.mean == [0.5, 0.4, 0.3] and saved.std == [0.229, 0.224, 0.225]
  np.testing.assert_array_equal(saved.model.head.bias[...], averaged["head.bias"].numpy())
  report = json.loads((folder / "conversion.json").read_text())
  sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
  assert report["source"]["sha256"] == saved.source["sha256"] == sha256
  assert report["source"]["weights"] == "ema" and report["source"]["container"] == "state_dict_ema"
  assert report["weights_sha256"] == saved.source["weights_sha256"]
  assert len(report["loaded"]) == len(averaged)
  assert report["source"]["metadata"]["epoch"] == 7
  assert torch_to_flax.main(command) == 1  # not empty
  assert "--force" in capsys.readouterr().err
  assert torch_to_flax.main([*command, "--force", "--weights", "raw"]) == 0
  assert load_model(folder).source["weights"] == "raw"
  assert {p.name for p in tmp_path.iterdir()} == {"in.pth", "out"}


def test_untrained_head_of_a_pre_training_file_is_reported(tmp_path, capsys):
  source = save_safetensors(mae_arrays(decoder=True), tmp_path / "mae.safetensors")
  command = ["--checkpoint", str(source), "--model", "vit_tiny_patch16"]
  command += ["--output", str(tmp_path / "out"), "--num_classes", "3", *flags(TINY_VIT)]
  assert torch_to_flax.main(command) == 0
  printed = capsys.readouterr().out
  assert "WARNING:   the head is untrained" in printed and "full MAE with decoder" in printed


def bad_files(tmp_path):
  """(name, path, part of the message) of files that must be rejected."""
  good = state_dict(vit_arrays())
  save = save_torch
  yield "payload", save({"model": Payload(tmp_path / "marker")}, tmp_path / "p"), "not among"
  whole = save(good, tmp_path / "w").read_bytes()
  for name, content, words in (
    ("truncated", whole[: len(whole) // 2], "cannot be read"),
    ("empty", b"", "empty"),
    ("text", b"hello", "neither"),
  ):
    (tmp_path / name).write_bytes(content)
    yield name, tmp_path / name, words
  missing = {k: v for k, v in good.items() if k != "cls_token"}
  yield "missing", save(missing, tmp_path / "m"), "cls_token [1, 1, 8]: missing"
  yield "extra", save(good | {"more": good["cls_token"]}, tmp_path / "e"), "more [1, 1, 8]"
  shape = good | {"fc_norm.bias": good["head.bias"]}
  yield "shape", save(shape, tmp_path / "s"), "shape [7], the model needs [8]"
  yield "nan", save(good | {"cls_token": good["cls_token"] * np.nan}, tmp_path / "n"), "not finite"
  integers = good | {"cls_token": good["cls_token"].long()}
  yield "integers", save(integers, tmp_path / "i"), "int64"
  yield "dict", save({}, tmp_path / "d"), "no state dict"
  t2t = {"tokens_to_token.project.weight": good["cls_token"]}
  yield "family", save(t2t, tmp_path / "f"), "T2T-ViT"
  yield "nowhere", tmp_path / "nowhere", "cannot be opened"


def test_bad_files_leave_no_folder(tmp_path, capsys):
  work = tmp_path / "work"
  work.mkdir()
  for name, path, words in bad_files(tmp_path):
    command = ["--checkpoint", str(path), "--model", "vit_tiny_patch16"]
    assert torch_to_flax.main([*command, "--output", str(work / "out"), *flags(TINY_VIT)]) == 1
    message = capsys.readouterr().err
    assert words in message and path.name in message, (name, message)
    assert not list(work.iterdir()), name
  assert not (tmp_path / "marker").exists()


def test_bad_arguments(tmp_path, capsys):
  source = save_torch(state_dict(vit_arrays()), tmp_path / "in.pth")
  other = tmp_path / "other"
  other.mkdir()
  (other / "thesis.txt").write_text("three years of work")
  for output, more, words in (
    (tmp_path / "out", ["--labels", "a,b"], "2 labels are given for 7 classes"),
    (tmp_path / "out", ["--labels", "a,b,c,d,e,f,a"], "twice"),
    (tmp_path / "out", ["--num_heads", "3"], "cannot be built"),
    (other, ["--force"], "other than a model"),
    (source, [], "is a file"),
  ):
    command = ["--checkpoint", str(source), "--output", str(output), "--model", "vit_tiny_patch16"]
    sizes = {k: v for k, v in TINY_VIT.items() if f"--{k}" not in more}
    assert torch_to_flax.main([*command, *flags(sizes), *more]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
  assert (other / "thesis.txt").exists()
  for more in (["--mean", "1,2"], ["--global_pool", "maybe"], []):
    with pytest.raises(SystemExit):
      torch_to_flax.main([*more, "--checkpoint", str(source)])
  assert flax_to_torch.main(["--checkpoint", str(other), "--output", str(tmp_path / "x")]) == 1
  assert "holds no model" in capsys.readouterr().err


def test_an_existing_torch_file_is_kept_without_force(tmp_path, capsys):
  source = save_torch(state_dict(vit_arrays()), tmp_path / "in.pth")
  folder = tmp_path / "m"
  command = ["--checkpoint", str(source), "--model", "vit_tiny_patch16", "--output", str(folder)]
  assert torch_to_flax.main(command + flags(TINY_VIT)) == 0
  before = source.read_bytes()
  back = ["--checkpoint", str(folder), "--output", str(source)]
  assert flax_to_torch.main(back) == 1
  assert "exists" in capsys.readouterr().err and source.read_bytes() == before
  assert flax_to_torch.main([*back, "--force"]) == 0
  assert source.read_bytes() != before


def test_command_modules_import_no_heavy_packages(repository):
  code = (
    "import sys; from convert import torch_to_flax, flax_to_torch; "
    "assert not {'torch', 'jax', 'flax'} & set(sys.modules), 'heavy imports'"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)


def test_export_for_mae_sfer(tmp_path, capsys):
  arrays = vit_arrays(norm="norm")
  source = save_torch({"model": state_dict(arrays)}, tmp_path / "in.pth")
  folder, target = tmp_path / "model", tmp_path / "out.pth"
  command = ["--checkpoint", str(source), "--model", "vit_tiny_patch16", "--output", str(folder)]
  assert torch_to_flax.main(command + flags(TINY_VIT)) == 0
  export = ["--checkpoint", str(folder), "--output", str(target), "--for", "mae-sfer"]
  assert flax_to_torch.main(export) == 0
  torch = pytest.importorskip("torch")
  content = torch.load(target, weights_only=True)
  # The keys that MAE-SFER's loader reads: training goes on with epoch 0.
  assert (content["epoch"], content["train_loss"]) == (-1, np.inf)
  assert set(content["model_state_dict"]) == set(arrays)
  for key, value in arrays.items():
    np.testing.assert_array_equal(content["model_state_dict"][key].numpy(), value, strict=True)


def test_export_for_mae_sfer_refuses_what_its_loader_would_skip(tmp_path, capsys):
  pytest.importorskip("torch")
  for name, sizes, words in (
    ("vit_tiny_patch16", TINY_VIT | {"global_pool": True}, "fc_norm.bias: not read"),
    ("convnextv2_atto", TINY_MODELS["convnextv2"][1], "is no ViT or MAE"),
  ):
    graphdef, variables = abstract_model(name, sizes)
    zeros = {path: np.zeros(variable.shape) for path, variable in variables.items()}
    model = fill_model(graphdef, variables, zeros)
    with pytest.raises(ConversionError, match=words):
      flax_to_torch.write_torch_checkpoint(model, name, tmp_path / "out.pth", reader="mae-sfer")
  assert not list(tmp_path.iterdir())
