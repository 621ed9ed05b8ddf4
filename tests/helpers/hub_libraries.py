"""Small models of timm and transformers, run by the libraries themselves.

Needs timm and transformers, which the tests do not require: tests/golden/hub/record.py records
what these models compute, and tests/convert/test_hub_libraries.py compares with them directly.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import safetensors.torch
import timm
import timm.data
import timm.models
import torch
import transformers

from tests.helpers.hub_models import HubCase, case_input, case_noise, hub_weights

TINY_VIT = dict(patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
TINY_CONVNEXT = dict(depths=(1, 1, 2, 1), dims=(4, 8, 12, 16))
LABELS = ["angry", "happy", "neutral", "sad", "surprise"]
TRANSFORMERS_VIT = dict(
  hidden_size=24,
  num_hidden_layers=2,
  num_attention_heads=3,
  intermediate_size=96,
  image_size=32,
  patch_size=8,
  # A score of its own in double precision: the library's own attention computes it in single.
  attn_implementation="sdpa",
)
LABELS_BY_ID = dict(
  id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)}
)

Save = Callable[[torch.nn.Module, pathlib.Path], None]


@dataclasses.dataclass(frozen=True)
class LibraryModel:
  """A small model of a library.

  Attributes:
    library: "timm" or "transformers".
    model: its name there.
    note: what distinguishes it from the other cases.
    build: makes it.
    side: of its images in pixels.
    call: {output name: tensor} from the model, images [B, 3, side, side] and mask noise.
    processor: makes the image processor of transformers.
    forms: {name of a file form: function that writes a folder in that form}.
    overrides: constructor keywords that the files leave open.
  """

  library: str
  model: str
  note: str
  build: Callable[[], torch.nn.Module]
  side: int
  call: Callable[..., dict[str, torch.Tensor]]
  forms: dict[str, Save]
  processor: Callable[[], Any] | None = None
  overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def version(self) -> str:
    return {"timm": timm, "transformers": transformers}[self.library].__version__


def _timm_save(model: torch.nn.Module, folder: pathlib.Path, *, safe: bool) -> None:
  config = {"label_names": LABELS} if model.num_classes == len(LABELS) else {}
  with _quiet():
    timm.models.save_for_hf(model, folder, model_config=config, safe_serialization=safe)


def _timm(name: str, note: str, call: Callable, side: int = 32, **arguments: Any) -> LibraryModel:
  return LibraryModel(
    "timm",
    name,
    note,
    lambda: timm.create_model(name, **arguments),
    side,
    call,
    {
      "model.safetensors": lambda model, folder: _timm_save(model, folder, safe=True),
      "pytorch_model.bin": lambda model, folder: _timm_save(model, folder, safe=False),
    },
  )


def _logits(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  out = model(images)
  return {"logits": out if isinstance(out, torch.Tensor) else out.logits}


def _timm_features(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  return {"features": model(images)}  # without classes the head is the identity


def _trunk_features(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  """py-feat's trunk gives the last stage; our classifier adds the mean and a fresh norm."""
  (stage,) = model.backbone(images)
  pooled = stage.mean(dim=(2, 3))
  return {"features": torch.nn.functional.layer_norm(pooled, pooled.shape[1:], eps=1e-6)}


def _py_feat() -> torch.nn.Module:
  """Part of the network of py-feat 2 (feat/multitask/model_v2.py), with some of its heads."""
  model = torch.nn.Module()
  name = "convnextv2_tiny.fcmae_ft_in22k_in1k"
  model.backbone = timm.create_model(
    name, features_only=True, out_indices=[-1], pretrained=False, **TINY_CONVNEXT
  )
  model.proj = torch.nn.Conv2d(16, 8, 1, bias=False)
  model.pose = torch.nn.Module()
  model.pose.mlp = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU())
  model.log_var_va = torch.nn.Parameter(torch.zeros(()))
  return model


def _with_pre_logits() -> torch.nn.Module:
  """A ViT with the layer before the head that timm had until version 0.5."""
  model = timm.create_model("vit_tiny_patch16_224", img_size=32, **TINY_VIT)
  model.pre_logits = torch.nn.Module()
  model.pre_logits.fc = torch.nn.Linear(24, 16)
  model.head = torch.nn.Linear(16, 5)
  return model


def _pre_logits_call(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  features = model.forward_head(model.forward_features(images), pre_logits=True)
  return {"logits": model.head(torch.tanh(model.pre_logits.fc(features)))}


def _fmae_iat() -> torch.nn.Module:
  """Fine-tuned FMAE-IAT (branch RAFDB_finetune, models_vit.py): a ViT with two heads."""
  model = timm.create_model("vit_tiny_patch16_224", img_size=48, global_pool="avg", **TINY_VIT)
  model.AU_head, model.head = model.head, torch.nn.Identity()
  model.ID_head = torch.nn.Linear(24, 7)
  return model


def _fmae_iat_call(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  return {"logits": model.AU_head(model(images))}


def _save_torch(model: torch.nn.Module, folder: pathlib.Path) -> None:
  folder.mkdir(exist_ok=True)
  torch.save({"model": model.state_dict(), "epoch": 3}, folder / "checkpoint.pth")


def _save_safetensors(model: torch.nn.Module, folder: pathlib.Path) -> None:
  folder.mkdir(exist_ok=True)
  safetensors.torch.save_file(model.state_dict(), folder / "face_multitask_v2.safetensors")


def _save_transformers(model: torch.nn.Module, folder: pathlib.Path, **options: Any) -> None:
  with _quiet():
    model.save_pretrained(folder, **options)


def _save_names_of_version_4(model: torch.nn.Module, folder: pathlib.Path) -> None:
  """As version 4 wrote it; version 5 reads it (see `record.py`) but names the decoder otherwise."""
  _save_transformers(model, folder)
  path = folder / "model.safetensors"
  arrays = safetensors.torch.load_file(path)
  renamed = {k.replace(".decoder_encoder.layer.", ".decoder_layers."): v for k, v in arrays.items()}
  safetensors.torch.save_file(renamed, path, metadata={"format": "pt"})


def _transformers(
  model: type, note: str, config: Callable[[], Any], call: Callable, processor: Callable[[], Any]
) -> LibraryModel:
  forms: dict[str, Save] = {
    "model.safetensors": _save_transformers,
    "new key names": lambda m, folder: _save_transformers(m, folder, save_original_format=False),
    "three or more shards": lambda m, folder: _save_transformers(m, folder, max_shard_size="20KB"),
  }
  if model is transformers.ViTMAEForPreTraining:
    forms["key names of version 4"] = _save_names_of_version_4
  if "ConvNext" in model.__name__:
    del forms["new key names"]  # the same
  side = 64 if "ConvNext" in model.__name__ else 32
  return LibraryModel(
    "transformers", model.__name__, note, lambda: model(config()), side, call, forms, processor
  )


def _first_token(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  return {"features": model(images).last_hidden_state[:, 0]}


def _pooled(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  return {"features": model(images).pooler_output}


def _reconstruction(model: torch.nn.Module, images: torch.Tensor, noise: torch.Tensor) -> dict:
  out = model(images, noise=noise)
  return {"loss": out.loss, "pred": out.logits}


def _vit_processor() -> Any:
  return transformers.ViTImageProcessor(size={"height": 32, "width": 32})


def _convnext_processor() -> Any:
  return transformers.ConvNextImageProcessor(size={"shortest_edge": 64})


def library_models() -> dict[str, LibraryModel]:
  """{case name: small model}."""
  vit = "vit_tiny_patch16_224"
  mae = dict(
    decoder_hidden_size=16,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=64,
    norm_pix_loss=True,
  )
  convnext = dict(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 2, 1], layer_norm_eps=1e-3)
  models = {
    "timm_vit": _timm(vit, "class token", _logits, img_size=32, **TINY_VIT),
    "timm_vit_average": _timm(
      "vit_tiny_patch16_384",
      "average pool, larger image",
      _logits,
      48,
      img_size=48,
      global_pool="avg",
      **TINY_VIT,
    ),
    "timm_vit_miil": _timm(
      "vit_base_patch16_224_miil",
      "no bias of query, key and value",
      _logits,
      img_size=32,
      **TINY_VIT,
    ),
    "timm_vit_headless": _timm(
      "vit_base_patch16_224.mae",
      "no head, features",
      _timm_features,
      img_size=32,
      **TINY_VIT | {"num_classes": 0},
    ),
    "timm_convnextv2_conv": _timm(
      "convnextv2_atto.fcmae_ft_in1k",
      "1x1 convolutions",
      _logits,
      64,
      num_classes=5,
      **TINY_CONVNEXT,
    ),
    "timm_convnextv2": _timm(
      "convnextv2_tiny.fcmae_ft_in22k_in1k",
      "linear layers",
      _logits,
      64,
      num_classes=5,
      **TINY_CONVNEXT,
    ),
    "timm_fcmae": _timm(
      "convnextv2_tiny.fcmae", "no head, features", _timm_features, 64, **TINY_CONVNEXT
    ),
    "transformers_vit": _transformers(
      transformers.ViTForImageClassification,
      "epsilon 1e-12, the default",
      lambda: transformers.ViTConfig(**TRANSFORMERS_VIT, **LABELS_BY_ID),
      _logits,
      _vit_processor,
    ),
    "transformers_vit_no_bias": _transformers(
      transformers.ViTForImageClassification,
      "no bias of query, key and value, epsilon 1e-3",
      lambda: transformers.ViTConfig(
        **TRANSFORMERS_VIT, **LABELS_BY_ID, qkv_bias=False, layer_norm_eps=1e-3
      ),
      _logits,
      _vit_processor,
    ),
    "transformers_vit_model": _transformers(
      transformers.ViTModel,
      "features",
      lambda: transformers.ViTConfig(**TRANSFORMERS_VIT),
      _first_token,
      _vit_processor,
    ),
    "transformers_mae": _transformers(
      transformers.ViTMAEForPreTraining,
      "loss and predicted patches",
      lambda: transformers.ViTMAEConfig(**TRANSFORMERS_VIT, **mae),
      _reconstruction,
      _vit_processor,
    ),
    # Without masking the class token does not depend on the order of the patches.
    "transformers_mae_model": dataclasses.replace(
      _transformers(
        transformers.ViTMAEModel,
        "features",
        lambda: transformers.ViTMAEConfig(**TRANSFORMERS_VIT, **mae | {"mask_ratio": 0.0}),
        _first_token,
        _vit_processor,
      ),
      overrides={"global_pool": False},
    ),
    "transformers_convnextv2": _transformers(
      transformers.ConvNextV2ForImageClassification,
      "epsilon 1e-3",
      lambda: transformers.ConvNextV2Config(**convnext, **LABELS_BY_ID),
      _logits,
      _convnext_processor,
    ),
    "transformers_convnextv2_model": _transformers(
      transformers.ConvNextV2Model,
      "features, epsilon 1e-3",
      lambda: transformers.ConvNextV2Config(**convnext),
      _pooled,
      _convnext_processor,
    ),
    "pre_logits": LibraryModel(
      "timm",
      vit,
      "pre_logits layer (timm 0.5)",
      _with_pre_logits,
      32,
      _pre_logits_call,
      {".pth": _save_torch},
    ),
    "fmae_iat": LibraryModel(
      "timm",
      "FMAE-IAT",
      "fine-tuned, two heads",
      _fmae_iat,
      48,
      _fmae_iat_call,
      {".pth": _save_torch},
    ),
    "py_feat": LibraryModel(
      "timm",
      "py-feat 2",
      "trunk, features",
      _py_feat,
      64,
      _trunk_features,
      {".safetensors": _save_safetensors},
    ),
  }
  for name in ("timm_vit", "timm_vit_average", "timm_convnextv2_conv", "timm_convnextv2"):
    models[name].forms[".pth"] = _save_torch
  for name in ("timm_vit_headless", "timm_fcmae", "transformers_mae_model"):
    only = models[name].forms["model.safetensors"]
    models[name] = dataclasses.replace(models[name], forms={"model.safetensors": only})
  for model in models.values():
    if model.call in (_timm_features, _trunk_features, _first_token, _pooled):
      model.overrides["num_classes"] = 5  # of a fresh head
  return models


def fill(model: torch.nn.Module, case: HubCase) -> torch.nn.Module:
  """The model with the weights of a case, for inference in double precision."""
  weights = hub_weights(case)
  state = {
    key: torch.from_numpy(np.asarray(weights[number], np.float64))
    for number, key in enumerate(model.state_dict())
  }
  model.double().load_state_dict(state)
  return model.eval()


def outputs(description: LibraryModel, model: torch.nn.Module, case: HubCase) -> dict:
  """{output name: float64 array} of the library's model for the input of a case."""
  images = torch.from_numpy(case_input(case).transpose(0, 3, 1, 2).astype(np.float64))
  noise = torch.from_numpy(case_noise(case).astype(np.float64))
  with torch.no_grad():
    return {name: out.numpy() for name, out in description.call(model, images, noise).items()}


def save(
  description: LibraryModel, model: torch.nn.Module, form: str, folder: pathlib.Path
) -> None:
  """Writes the model in single precision, with the files that the library puts beside it."""
  model = model.float()
  description.forms[form](model, folder)
  if description.processor is not None:
    with _quiet():
      description.processor().save_pretrained(folder)


def saved_keys(folder: pathlib.Path) -> list[tuple[str, torch.Tensor]]:
  """Keys and tensors of all files of weights in a folder."""
  pairs: list[tuple[str, torch.Tensor]] = []
  for path in sorted(folder.iterdir()):
    if path.suffix == ".safetensors":
      pairs += safetensors.torch.load_file(path).items()
    elif path.suffix in (".bin", ".pth"):
      content = torch.load(path, weights_only=True)
      pairs += content.get("model", content).items()
  return pairs


def read_json(path: pathlib.Path) -> dict | None:
  return json.loads(path.read_text()) if path.is_file() else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  yield


def preprocessed(description: LibraryModel, folder: pathlib.Path, image: np.ndarray) -> np.ndarray:
  """What the library makes of a uint8 image, for a saved model: [side, side, 3] normalised."""
  if description.processor is not None:
    values = description.processor()(image, return_tensors="pt")["pixel_values"][0]
  else:
    saved = read_json(folder / "config.json")
    settings = timm.data.resolve_data_config(pretrained_cfg=saved["pretrained_cfg"])
    transform = timm.data.create_transform(**settings, is_training=False)
    values = transform(PIL.Image.fromarray(image))
  return values.permute(1, 2, 0).numpy()
