"""Statement of what a model was trained on, for the results of predictions."""

_DEMO = "demo_clips"


def training_note(trained_on: str) -> str:
  """One line on the training data, for example "trained on casme2".

  Args:
    trained_on: entry of that name in the source of a model, "<dataset>/<configuration>"; "" if it
      is not recorded.
  """
  name = trained_on.partition("/")[0]
  if name == _DEMO:
    return (
      "trained on the demo clips: synthetic, made for trying out programs; its predictions say "
      "nothing about real faces"
    )
  return f"trained on {name}" if name else "the model folder does not say what it was trained on"


def is_synthetic_or_unknown(trained_on: str) -> bool:
  """Whether the training data are synthetic or unknown."""
  return trained_on.partition("/")[0] in ("", _DEMO)
