"""JSON files of hub folders: preprocessing, labels, and defaults of older versions."""

import numpy as np
import pytest

from convert.errors import ConversionError
from convert.timm_config import timm_model
from convert.transformers_config import transformers_model
from tests.helpers.hub_models import hub_cases

CASES = hub_cases()


def processor(**settings):
  config = CASES["transformers_vit"].config | {"image_size": 224}
  return transformers_model(config, settings).preprocessing


def test_processors_of_transformers():
  old = processor(size=224, resample=3, feature_extractor_type="ViTFeatureExtractor")
  assert (old.resize, old.resize_to, old.interpolation) == ("stretch", 224, "bicubic")
  assert old.mean == [0.5, 0.5, 0.5]
  cropped = processor(
    size={"shortest_edge": 256}, do_center_crop=True, crop_size={"height": 224, "width": 224}
  )
  assert (cropped.resize, cropped.resize_to, cropped.image_size) == ("shortest_edge", 256, 224)
  assert cropped.crop_fraction == 0.875
  assert processor(do_resize=False).resize == "none"
  plain = processor(do_normalize=False)
  assert plain.mean == [0.0] * 3 and plain.std == [1.0] * 3
  # (pixel - mean) / std of unscaled pixels is (pixel / 255 - mean / 255) / (std / 255).
  unscaled = processor(do_rescale=False, image_mean=[127.5] * 3, image_std=[255.0] * 3)
  np.testing.assert_allclose(unscaled.mean, [0.5] * 3)
  np.testing.assert_allclose(unscaled.std, [1.0] * 3)
  half = processor(rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3)
  np.testing.assert_allclose(half.mean, [0.5] * 3)
  for settings, words in (
    (dict(size={"shortest_edge": 224}), "does not crop"),
    (dict(size={"height": 224, "width": 192}), "square"),
    (dict(image_mean=[0.5, 0.5]), "three numbers"),
    (dict(image_std=0.0), "standard deviation"),
    (dict(do_flip_channel_order=True), "do_flip_channel_order"),
  ):
    with pytest.raises(ConversionError, match=words):
      processor(**settings)


def test_large_images_of_convnext_are_not_cropped():
  settings = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}
  model = transformers_model(CASES["transformers_convnextv2"].config, settings)
  assert model.preprocessing.resize == "stretch" and model.arguments["image_size"] == 384
  assert model.preprocessing.crop_fraction == 1.0


def test_defaults_of_older_configurations():
  model = transformers_model({"model_type": "vit", "architectures": ["ViTModel"]}, None)
  assert model.arguments["norm_epsilon"] == 1e-12 and model.arguments["num_heads"] == 12
  assert model.arguments["qkv_bias"] and model.preprocessing is None
  config = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
  model = transformers_model(config | {"problem_type": "multi_label_classification"}, None)
  assert model.labels == ["LABEL_0", "LABEL_1"] and "softmax" in model.warnings[0]
  names = {"0": "crane", "1": "crane", "2": "lark"}
  model = transformers_model(config | {"id2label": names}, None)
  assert model.labels == ["crane", "crane (1)", "lark"] and "crane" in model.notes[0]


def test_settings_of_timm_without_model_args():
  """As the hub has them for the models that timm's author published."""
  pretrained = {"input_size": [3, 384, 384], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3}
  config = {"architecture": "vit_base_patch16_384", "num_classes": 1000, "global_pool": "token"}
  model = timm_model(config | {"pretrained_cfg": pretrained | {"crop_mode": "squash"}})
  assert model.arguments == {
    "image_size": 384,
    "num_heads": 12,
    "global_pool": False,
    "num_classes": 1000,
  }
  assert model.labels is None and model.preprocessing.resize == "stretch"
  flat = timm_model({"architecture": "vit_small_patch32_224_in21k", **pretrained})  # older
  assert flat.arguments["num_heads"] == 6 and flat.preprocessing.resize_to == 384
  assert timm_model({"architecture": "vit_huge_patch14_224"}).arguments["num_heads"] == 16
