"""The command `models`: recorded summaries, published figures, addresses of released weights."""

import json
import re

import pytest

from jax_me.__main__ import main
from jax_me.models.model_summary import recorded_summaries, summarize_model
from jax_me.models.registry import MODELS, create_abstract_model
from jax_me.models.released_weights import RELEASED_WEIGHTS

# Table 3 and README of T2T-ViT (arXiv:2101.11986): MACs in G.
T2T_MACS = {
  "t2t_vit_7": 1.1,
  "t2t_vit_10": 1.5,
  "t2t_vit_12": 1.8,
  "t2t_vit_14": 4.8,
  "t2t_vit_19": 8.5,
  "t2t_vit_24": 13.8,
  "t2t_vit_t_14": 6.1,
  "t2t_vit_t_19": 9.8,
  "t2t_vit_t_24": 15.0,
}
# Table of the README of ConvNeXt V2 (arXiv:2301.00808): parameters in M, MACs in G.
CONVNEXT = {
  "atto": (3.7, 0.55),
  "femto": (5.2, 0.78),
  "pico": (9.1, 1.37),
  "nano": (15.6, 2.45),
  "tiny": (28.6, 4.47),
  "base": (89, 15.4),
  "large": (198, 34.4),
  "huge": (660, 115),
}


def run(capsys, *arguments):
  code = main(["models", *arguments])
  return code, capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["t2t_vit_7", "mae_vit_tiny_patch16", "convnextv2_atto", "fcmae_convnextv2_atto"]
)
def test_recorded_summary_is_current(name):
  assert summarize_model(name) == recorded_summaries()[name]


def test_every_model_has_a_summary():
  assert list(recorded_summaries()) == list(MODELS)


@pytest.mark.parametrize("name", T2T_MACS)
def test_macs_of_t2t_vit_agree_with_the_paper(name):
  # T2T-ViT-24 is published as 13.8, where the products and convolutions sum to 13.66.
  assert recorded_summaries()[name].macs / 1e9 == pytest.approx(T2T_MACS[name], rel=0.012, abs=0.05)


@pytest.mark.parametrize("size", CONVNEXT)
def test_figures_of_convnext_v2_agree_with_the_paper(size):
  summary, (parameters, macs) = recorded_summaries()[f"convnextv2_{size}"], CONVNEXT[size]
  assert summary.parameters / 1e6 == pytest.approx(parameters, rel=0.005, abs=0.05)
  assert summary.macs / 1e9 == pytest.approx(macs, rel=0.006)


def test_table_has_a_row_for_every_model(capsys):
  code, printed = run(capsys)
  assert code == 0
  assert [line.split()[0] for line in printed.out.splitlines()[1 : 1 + len(MODELS)]] == [*MODELS]


def test_one_model_with_keywords_and_weights(capsys):
  code, printed = run(capsys, "t2t_vit_14")
  assert code == 0
  assert "21.5 M parameters" in printed.out and "4.78 G" in printed.out
  assert "embed_dim" in printed.out and "384" in printed.out
  assert "83.3_T2T_ViT_14.pth.tar: ImageNet 83.3%, licence Clear BSD" in printed.out


def test_another_image_size_and_json(capsys):
  code, printed = run(capsys, "t2t_vit_7", "--image-size", "32", "--json")
  (summary,) = json.loads(printed.out)
  assert code == 0 and summary["image_size"] == 32
  assert summary["macs"] < recorded_summaries()["t2t_vit_7"].macs / 20
  assert [weights["top1"] for weights in summary["released"]] == [71.7]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["t2t_vit_15"], "did you mean t2t_vit_1"),
    (["vit_base_patch16", "--image-size", "100"], "100"),
    (["--image-size", "64"], "needs the name of a model"),
  ],
)
def test_errors_are_one_line(capsys, arguments, message):
  code, printed = run(capsys, *arguments)
  assert code == 1 and message in printed.err and printed.err.count("\n") == 1


def test_released_weights_fit_their_models():
  for weights in RELEASED_WEIGHTS:
    assert weights.arguments.keys() <= recorded_summaries()[weights.model].arguments.keys()
  assert len({weights.address for weights in RELEASED_WEIGHTS}) == len(RELEASED_WEIGHTS)


def test_a_model_of_the_released_size_can_be_built():
  (weights,) = [w for w in RELEASED_WEIGHTS if w.file == "83.3_T2T_ViT_14.pth.tar"]
  assert create_abstract_model(weights.model, **weights.arguments)


def test_documentation_lists_the_released_files(repository):
  text = (repository / "docs" / "weights.md").read_text()
  patterns = [
    re.sub(r"\\\{(.*?)\\\}", lambda m: f"({m[1].replace(',', '|')})", re.escape(name))
    for name in re.findall(r"`(?:[\w,{}]+/)*([\w.,{}]+\.(?:pth\.tar|pth|pt))`", text)
  ]
  missing = [w.file for w in RELEASED_WEIGHTS if not any(re.fullmatch(p, w.file) for p in patterns)]
  assert not missing
