"""Description of a model for the demo page: its card, or its metadata where it has none."""

import pathlib

from jax_me.bounded_reading import read_file
from jax_me.inference.sharing.model_card import (
  CARD_FILE,
  ORIGINAL_CARD_FILE,
  model_properties,
  training_data,
)
from jax_me.models.saved_model import SavedModel
from jax_me.reports.document import Document, Table, Text, to_markdown

_MAX_CARD_BYTES = 2**18


def describe_model(saved: SavedModel, folder: pathlib.Path) -> str:
  """Markdown about a model.

  Args:
    saved: the model.
    folder: that it was loaded from; without a card in it, the metadata are described.

  Returns:
    the card of the folder, or a table.
  """
  for name in (ORIGINAL_CARD_FILE, CARD_FILE):
    if (folder / name).is_file():
      return read_file(folder / name, _MAX_CARD_BYTES).decode("utf-8", "replace")
  table = Table("", ("property", "value"), model_properties(saved))
  licence = Text(f"Licence of the weights: {saved.licence or 'not recorded'}.")
  return to_markdown(
    Document("A model without a card", [*training_data(saved), table, licence]), ""
  )
