"""Model card of a shared model: Markdown with metadata in the form of the Hugging Face hub."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from jax_me.bounded_reading import read_file
from jax_me.evaluation.summary import ScoreSummary
from jax_me.inference.training_note import is_synthetic_or_unknown, training_note
from jax_me.limits_notice import LAW_NOTICE, LIMITS_NOTICE
from jax_me.models.saved_model import FINAL, SavedModel
from jax_me.reports.document import Block, Document, Section, Table, Text, to_markdown
from jax_me.reports.run_report import DATA_FOLDER, SCORES_FILE
from jax_me.reports.score_sections import group_blocks, headline
from jax_me.reports.score_text import CLASS_HEADER, class_rows
from jax_me.run_folder import verify_result

LIBRARY = "jax_me"
CARD_FILE, ORIGINAL_CARD_FILE = "README.md", "CARD.md"
CONFIG_FILE = "config.json"  # Settings of a run, in its folder.
# Of the hub's identifiers those that people give to weights. Any other licence is "other".
LICENCE_NAMES = frozenset(
  "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 "
  "cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 gpl-3.0 agpl-3.0 openrail".split()
)
# Settings in the card, as far as the run has them; others can hold paths of a computer.
RECIPE_SETTINGS = (
  "data.name", "data.split", "epochs", "steps", "batch_size", "optimizer.name",
  "optimizer.learning_rate", "optimizer.base_learning_rate", "optimizer.weight_decay",
  "optimizer.layer_decay", "optimizer.warmup_epochs", "label_smoothing", "mixing.mixup_alpha",
  "mixing.cutmix_alpha", "ema_decay", "select", "precision", "seed",
)  # fmt: skip
_MAX_BYTES = 2**24


def model_card(
  saved: SavedModel, repository: str, *, origin: pathlib.Path | None = None, licence: str = ""
) -> str:
  """Composes the card.

  Args:
    saved: the model.
    repository: "OWNER/NAME".
    origin: folder that the model was loaded from, whose run may have scores and settings.
    licence: of the weights; "" takes that of the model.

  Returns:
    Markdown with YAML metadata; README.md of the repository.

  Raises:
    ValueError: the scores of the run are damaged.
  """
  summary = _read_scores(origin)
  original = _read_original(origin)
  licence = licence or saved.licence
  sections = [
    Section("Model", [Table("", ("property", "value"), model_properties(saved))]),
    Section("Data", training_data(saved)),
    Section("Recipe", _recipe(saved, origin)),
    Section("Scores", _scores(saved, summary, original)),
    Section("Groups of people", _groups(summary)),
    Section("Intended use", [Text(_INTENDED_USE)]),
    Section("Limits, consent and law", [Text(LIMITS_NOTICE), Text(_CONSENT), Text(LAW_NOTICE)]),
    Section("Licence", [Text(licence or _NO_LICENCE, warning=not licence)]),
  ]
  text = to_markdown(Document(repository.partition("/")[2], [], sections), "")
  text = text.replace("\n\n## ", f"\n\n{_usage(saved, repository)}\n\n## ", 1)
  if original:
    text += "\n" + re.sub(r"^#", "##", original, flags=re.M)
  return f"---\n{_metadata(saved, repository, summary, licence)}---\n\n{text}"


_INTENDED_USE = (
  "Research on facial expressions, and trying out the methods: how raters would label the look of "
  "a face in photographs or videos of people who have agreed to it. Before any other use, measure "
  "it on recordings like your own."
)
_CONSENT = (
  "What the people in the training images agreed to is said by the publishers of the data. Nothing "
  "in this repository is a photograph of them."
)
_NO_LICENCE = "The publisher of this repository states no licence: ask before you use the weights."


def _metadata(
  saved: SavedModel, repository: str, summary: ScoreSummary | None, licence: str
) -> str:
  """YAML. Each value is JSON, which YAML contains."""
  known = licence.lower() in LICENCE_NAMES
  content: dict[str, Any] = {
    "library_name": LIBRARY,
    "license": licence.lower() if known else "other",
    **({} if known else {"license_name": "see-model-card"}),
    "tags": ["jax", "flax", "face", "facial-expression-recognition", saved.name],
  }
  if saved.labels is not None:
    content |= {"pipeline_tag": "image-classification", "metrics": ["accuracy", "f1", "recall"]}
  if summary is not None:
    dataset = saved.source.get("trained_on", "").partition("/")[0] or "unknown"
    names = {"accuracy": "accuracy", "f1": "UF1 (macro F1)", "recall": "UAR (macro recall)"}
    pooled = summary["pooled"]
    values = {"accuracy": pooled["accuracy"], "f1": pooled["uf1"], "recall": pooled["uar"]}
    result = {
      "task": {"type": "image-classification", "name": "facial expression recognition"},
      "dataset": {"type": dataset, "name": dataset},
      "metrics": [
        {"type": kind, "name": name, "value": round(values[kind], 4)}
        for kind, name in names.items()
      ],
    }
    content["model-index"] = [{"name": repository.partition("/")[2], "results": [result]}]
  return "".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items())


def _usage(saved: SavedModel, repository: str) -> str:
  call = 'model.predict("photo.jpg")' if saved.labels else 'model.explain("photo.jpg")'
  lines = ["import jax_me", "", f'model = jax_me.from_pretrained("{repository}")', call]
  return "\n".join(['`pip install "jax_me[hub]"`', "", "```python", *lines, "```"])


def model_properties(saved: SavedModel) -> list[tuple[str, str]]:
  """(property, value) of architecture, classes and input."""
  aligned = saved.alignment["align"]
  return [
    ("architecture", saved.title),
    ("arguments", _listed(saved.arguments) or "defaults"),
    ("classes", ", ".join(saved.labels or ()) or "none: a masked autoencoder"),
    ("further outputs", "valence, arousal" if saved.affect else "none"),
    ("input", f"{saved.image_size} x {saved.image_size} pixels, {saved.input or 'photographs'}"),
    ("faces", f"aligned, detector {saved.alignment['detector']}" if aligned else "whole images"),
  ]


def training_data(saved: SavedModel) -> list[Block]:
  """What is known of the training data."""
  trained_on = saved.source.get("trained_on", "")
  note = training_note(trained_on)
  blocks: list[Block] = [
    Text(f"{note[0].upper()}{note[1:]}.", warning=is_synthetic_or_unknown(trained_on))
  ]
  options = saved.source.get("options")
  if options:
    blocks.append(Text(f"Options of the dataset: {_listed(options)}."))
  return blocks


def _recipe(saved: SavedModel, origin: pathlib.Path | None) -> list[Block]:
  source = saved.source
  kept = ("fold", "seed", "init_from", "format", "detected", "weights_sha256", "url", "name")
  facts = {key: source[key] for key in kept if source.get(key) not in (None, "", [])}
  path = _beside(origin, CONFIG_FILE)
  if path is not None:
    config = json.loads(read_file(path, _MAX_BYTES))
    facts |= {key: value for key in RECIPE_SETTINGS if (value := _setting(config, key))}
  if not facts:
    return [Text("Not recorded.")]
  rows = [(key, _shown(value)) for key, value in facts.items()]
  return [Table("", ("setting", "value"), rows)]


def _scores(saved: SavedModel, summary: ScoreSummary | None, original: str) -> list[Block]:
  if summary is None and original:
    return [Text("See the notes of the authors below.")]
  if summary is None:
    return [Text("No scores are recorded for this model.", warning=saved.labels is not None)]
  # Without the warnings of the report, which can name people.
  blocks = headline({**summary, "cautions": []})
  if count := len(summary["cautions"]):
    warnings = "a warning" if count == 1 else f"{count} warnings"
    blocks.append(Text(f"The report of the run has {warnings} about these scores.", warning=True))
  fold = saved.source.get("fold")
  if fold == FINAL:
    text = (
      "These are the scores of the folds of the same recipe. The model of this repository was "
      "trained on everybody afterwards, and has no test people of its own."
    )
    blocks.insert(0, Text(text, warning=True))
  elif summary["folds"]:
    blocks.insert(
      0, Text(f"Pooled over all folds; the model of this repository is that of {fold}.")
    )
  caption = "Scores of each class, its number of examples, and how often it was predicted"
  return [*blocks, Table(caption, CLASS_HEADER, class_rows(summary["pooled"]))]


def _groups(summary: ScoreSummary | None) -> list[Block]:
  if summary is None or not summary["groups"]:
    return [Text("Not measured: differences between age groups, sexes, skin tones are unknown.")]
  return group_blocks(summary["groups"])


def _read_scores(origin: pathlib.Path | None) -> ScoreSummary | None:
  path = _beside(origin, f"{DATA_FOLDER}/{SCORES_FILE}")
  if path is None:
    return None
  verify_result(path)
  try:
    return cast(ScoreSummary, json.loads(read_file(path, _MAX_BYTES)))
  except ValueError as error:
    raise ValueError(f"{path} cannot be read: {error}; write it again: jax-me report") from error


def _read_original(origin: pathlib.Path | None) -> str:
  """The card that the model folder has, "" without."""
  if origin is None or not (origin / ORIGINAL_CARD_FILE).is_file():
    return ""
  return read_file(origin / ORIGINAL_CARD_FILE, _MAX_BYTES).decode("utf-8", "replace")


def _beside(origin: pathlib.Path | None, name: str) -> pathlib.Path | None:
  """A file in the folder of the model, or in that of its run."""
  for folder in () if origin is None else (origin, origin.absolute().parent):
    if (folder / name).is_file():
      return folder / name
  return None


def _setting(config: Mapping[str, Any], key: str) -> Any:
  value: Any = config
  for part in key.split("."):
    value = value.get(part) if isinstance(value, Mapping) else None
  return value


def _listed(values: Mapping[str, Any]) -> str:
  return ", ".join(f"{key} {_shown(value)}" for key, value in values.items())


def _shown(value: Any) -> str:
  is_list = isinstance(value, Sequence) and not isinstance(value, str)
  return ", ".join(map(str, value)) if is_list else str(value)
