"""docs/recipes.md: the settings of the recipes beside those of the originals.

After a deliberate change of a recipe, or of tests/original_settings.csv, write the page again with
`python -m tests.test_recipe_page`.
"""

import ast
import csv
import functools
import json
import pathlib

import pytest

from jax_me.training import recipes
from jax_me.training.settings import declared_settings, dotted_keys, value_of

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "recipes.md"
TABLE = REPOSITORY / "tests" / "original_settings.csv"
PARITY = REPOSITORY / "benchmarks" / "results" / "evaluation_parity.json"
# Settings of a training that have no counterpart in the originals: files, intervals, hardware.
OWN = (
  "task",
  "data.name",
  "data.split",
  "data.folds",
  "data.options.",
  "model.name",
  "model.image_size",
)
OWN += ("evaluate_epochs", "checkpoint_steps", "log_steps")
HEAD = """# Recipes and their originals

Each recipe that follows a published project, setting by setting: the original with file and line, \
our value, and a reason where they differ. Every setting that a recipe changes is listed. \
RandAugment is compared with timm's in `tests/data/test_rand_augment.py`. This page is written by \
`python -m tests.test_recipe_page`.

The files are those of github.com/facebookresearch/mae (efb2a80), facebookresearch/ConvNeXt-V2 \
(2553895), yitu-opensource/T2T-ViT (0f63dc9), Aisakaorz/ViT_MicroExpression (cceb096) and \
MSA-LMC/MAE-SFER (7e91c1d), and of timm and torchtoolbox. MAE-SFER does not publish \
main_ferplus.py, main_finetune_affectnet.py and its changed main_finetune.py; what its commands do \
not give is taken from main_rafdb.py and from the projects that it builds on.

For all recipes: an epoch is the number of training images divided by the batch, which need not be \
whole; the originals drop the last incomplete batch of each epoch. The stochastic operations have \
the distributions of the originals, not their random numbers.

## Training steps

`tests/golden/recipes/record.py` runs the training programs of the originals on a CPU, from their \
command line to the last step, with small models of the same depth and short runs. Replaced are \
CUDA, apex, MinkowskiEngine, removed names of torch, timm's `accuracy`, the casts to float32 in \
T2T-ViT's performer, the log file of main_rafdb.py and the files of images. Learning rate \
and weight decay of every parameter at every step equal ours, up to the differences below, and so \
do the losses of the first ten steps from the same weights and batches, in float64 \
(`tests/training/test_recipe_schedules.py`). Mixing, stochastic depth and dropout are off in the \
record, since their random numbers differ.

| recipe | program that was run | stands in for, since it is not published |
|---|---|---|
| mae_affectnet | mae main_pretrain.py | MAE-SFER's main_pretrain.py |
| fcmae_affectnet | ConvNeXt-V2 main_pretrain.py | MAE-SFER's main_pretrain_convnextv2.py |
| finetune_rafdb | MAE-SFER main_rafdb.py | |
| finetune_ferplus | MAE-SFER main_rafdb.py | MAE-SFER's main_ferplus.py |
| finetune_affectnet | mae main_finetune.py | MAE-SFER's main_finetune_affectnet.py |
| finetune_rafdb:convnextv2_base | ConvNeXt-V2 main_finetune.py | MAE-SFER's main_finetune.py |
| finetune_rafdb:t2t_vit_14 | T2T-ViT transfer_learning.py | |
| t2t_imagenet_style | T2T-ViT main.py | |
| t2t_microexpression | ViT_MicroExpression train.py | |

FCMAE's losses are those with GRN over the batch (`--config.model.arguments.grn=batch`). In \
ViT_MicroExpression's train.py the lines of T2T-ViT are comments; T2T-ViT took the place of its \
Swin transformer.

## Crops and the size of stored images

`augment.crop_source=stored` crops from the stored image, with its resolution and aspect ratio; \
`read` from the image resized to the input. Where stored images have at most 224 pixels there is \
no detail to gain.

| dataset | stored images | larger than 224 pixels |
|---|---|---|
| AffectNet 2021, AffectNet+ | 224 x 224 | no |
| AffectNet 2017 | crops by the annotated box, at most `data.options.size` (224) | no, by default |
| RAF-DB, aligned | 100 x 100 | no, but a crop is resized once instead of twice |
| RAF-DB, original | photographs | yes |
| FER2013, FER+ | 48 x 48 | no, likewise |
| CK+ | 640 x 490 | yes |
| JAFFE | 256 x 256 | yes |
| a folder of yours, aligned | `data.options.size` | as you choose |
| a folder of yours, not aligned | your files | where they are |

A crop of a stored image takes more of the processor, since it is drawn anew in each epoch and \
resized with an antialiased bicubic filter: 1.6 ms an image on one core instead of 0.8 ms for \
JPEGs of 256 to 400 pixels (`benchmarks/input_pipeline.py --stages`). A JPEG is decoded at a half, \
a quarter or an eighth of its size when the crop then has enough pixels. One core thus crops about \
600 images per second; `--config.data.workers=N` uses N processes, which give their batches \
through shared memory. Of a training step of the recipes for image folders less than 1% is spent \
waiting for the next batch, with decoded images kept in memory or decoded in each step \
(`benchmarks/input_pipeline.py --waits`, two cores).

## Evaluation

`eval.resize`, `eval.crop` and `eval.interpolation` are stored with the model, so `predict` \
prepares whole images in the same way. Aligned faces are only resized. \
`benchmarks/evaluation_parity.py` lets the originals' programs evaluate small models on 500 JPEGs \
of 200 to 600 pixels, with their own transforms (torchvision, timm 0.3.2) and in float32, and \
jax_me the same checkpoint, converted, under the recipe. The weights are random, except for a head \
that was fitted to some of the images.

| original | recipe | right, original | right, ours | other class | largest difference of a \
probability |
|---|---|---|---|---|---|
"""


@functools.cache
def rows_by_recipe():
  with TABLE.open(encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  return {name: [r for r in rows if r["recipe"] == name] for name in dict.fromkeys(names(rows))}


def names(rows):
  return [row["recipe"] for row in rows]


@functools.cache
def config_of(name):
  path, _, argument = name.partition(":")
  file = str(REPOSITORY / "configs" / f"{path}.py")
  return recipes.load_recipe(f"{file}:{argument}" if argument else file)


def is_equal(ours, original):
  if isinstance(original, tuple):
    return len(ours) == len(original) and all(map(is_equal, ours, original))
  return ours == original


def shown(number):
  if isinstance(number, tuple | list):
    return f"({', '.join(map(shown, number))})"
  return f"{number:.6g}" if isinstance(number, float) else str(number)


def page():
  parts = [HEAD]
  for name, row in json.loads(PARITY.read_text(encoding="utf-8")).items():
    right = f"{row['right_original']} of {row['images']} | {row['right_ours']}"
    difference = f"{row['other_class']} | {row['largest_probability_difference']:.0e}"
    parts.append(f"| {name} | {row['recipe']} | {right} | {difference} |\n")
  for name, rows in rows_by_recipe().items():
    parts += [
      f"\n## {name}\n\n| setting | original | source | ours | difference |\n|---|---|---|---|---|\n"
    ]
    for row in rows:
      if row["setting"].startswith("("):
        cells = (row["setting"].strip("()"), row["original"], row["source"], row["note"], "")
      else:
        ours = shown(value_of(config_of(name), row["setting"]))
        original = shown(ast.literal_eval(row["original"]))
        cells = (f"`{row['setting']}`", original, row["source"], ours, row["note"])
      parts.append(f"| {' | '.join(cells)} |\n")
  return "".join(parts)


def test_page_is_that_of_the_configs():
  assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.test_recipe_page"


@pytest.mark.parametrize("name", rows_by_recipe())
def test_differences_and_only_they_have_a_reason(name):
  for row in rows_by_recipe()[name]:
    if row["setting"].startswith("("):
      assert row["note"], row
    else:
      equal = is_equal(value_of(config_of(name), row["setting"]), ast.literal_eval(row["original"]))
      assert equal == (not row["note"]), row


@pytest.mark.parametrize("name", rows_by_recipe())
def test_every_changed_setting_is_listed(name):
  config, listed = config_of(name), {row["setting"] for row in rows_by_recipe()[name]}
  declared = declared_settings()
  for key in dotted_keys(config):
    changed = key not in declared or value_of(config, key) != declared[key].value
    assert not changed or key in listed or key.startswith(OWN), key


if __name__ == "__main__":
  PAGE.write_text(page(), encoding="utf-8")
