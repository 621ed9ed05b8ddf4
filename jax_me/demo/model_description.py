"""Description of a model for the demo page: its card, or its metadata where it has none."""

import pathlib

from jax_me.bounded_reading import read_file
from jax_me.inference.training_note import training_note
from jax_me.models.saved_model import SavedModel

CARD_FILES = ("CARD.md", "README.md")
_MAX_CARD_BYTES = 2**18


def describe_model(saved: SavedModel, folder: pathlib.Path) -> str:
  """Markdown about a model.

  Args:
    saved: the model.
    folder: that it was loaded from; without a card in it, the metadata are described.

  Returns:
    the card of the folder, or a table.
  """
  for name in CARD_FILES:
    if (folder / name).is_file():
      return read_file(folder / name, _MAX_CARD_BYTES).decode("utf-8", "replace")
  rows = {
    "model": saved.title,
    "training data": training_note(saved.source.get("trained_on", "")),
    "classes": ", ".join(saved.labels or ()) or "none: a masked autoencoder",
    "input": f"{saved.image_size} x {saved.image_size} pixels"
    + (f", {saved.input}" if saved.input else ""),
    "faces": f"aligned, detector {saved.alignment['detector']}"
    if saved.alignment["align"]
    else "whole images",
    "licence of the weights": saved.licence or "not recorded",
  }
  first, *others = [f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items()]
  return "\n".join(["This model has no card.", "", first, "|---|---|", *others])
