"""A page that shows what is in a built dataset: contact sheet, numbers, mean faces, durations."""

from __future__ import annotations

import collections
import pathlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jax_me.data.image_store import ImageStore
from jax_me.data.index import ExampleIndex
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.option_flags import shown
from jax_me.datasets.quality.preview_figures import (
  draw_counts,
  draw_durations,
  draw_flow_legend,
  draw_sheet,
)
from jax_me.files import write_atomically
from jax_me.reports.document import (
  Block,
  Document,
  KeyFigures,
  Gallery,
  Figure,
  Section,
  Table,
  Text,
  Tile,
  to_html,
)
from jax_me.reports.figures import shorten, thumbnail

PER_CLASS = 8  # pictures on the contact sheet
THUMBNAIL = 160  # pixels, longer side
NAME = 24  # letters of a file's name under a picture: some are hashes
MEAN_SIDE = 160  # pixels
MEAN_COUNT = 500  # at most so many pictures of a class go into its mean

# What a picture made of several frames shows; see `jax_me.data.clip_inputs.inputs`.
MEANINGS = {
  "key_frames": "Each clip gives three pictures: its onset, apex and offset frame.",
  "pair": "Each picture shows two frames of a clip: red is the onset in grey, green the apex in "
  "grey, blue their difference, amplified: middle blue where nothing has changed, brighter where "
  "the apex is brighter. Where nothing moves, red and green are equal.",
  "dynamic": "Each picture sums up a clip (rank pooling): grey where nothing changes, else the "
  "colours of what is there later, and the opposite of what was there before.",
  "flow": "Each picture is the motion from onset to apex, not a face. Red is horizontal: brighter "
  "to the right, darker to the left. Green is vertical: brighter downwards, darker upwards. Blue "
  "is optical strain: how much the skin is stretched or pressed. Where nothing moves the picture "
  "is olive (128, 128, 0).",
  "frames": "Each clip gives several pictures: frames evenly spaced from onset to offset.",
}


def write_preview(builder: Any, page: pathlib.Path, *, seed: int = 0) -> list[pathlib.Path]:
  """Writes the page, and beside it the contact sheet as PNG.

  Args:
    builder: a built dataset.
    page: where the page is to be; the sheet has the same name with ".png".
    seed: which pictures are drawn.

  Returns:
    paths of the page and the sheet.

  Raises:
    DamagedDataset: a picture or the index cannot be read.
  """
  try:
    document, sheet = compose(builder, seed)
  except (ValueError, KeyError, OSError) as error:
    raise DamagedDataset(f"{builder.data_path}: {error}") from error
  png = page.with_suffix(".png")
  write_atomically(page, to_html(document).encode("utf-8"))
  write_atomically(png, sheet)
  return [page, png]


def compose(builder: Any, seed: int = 0) -> tuple[Document, bytes]:
  """The page's content, and the contact sheet as PNG bytes."""
  split = "+".join(sorted(builder.info.splits, key=_split_order))
  store = ImageStore(builder, split, image_size=MEAN_SIDE, cache_bytes=0)
  index = store.index
  kind = getattr(builder.options, "input", "")
  chosen = [
    choose(index, np.flatnonzero(index.label == code), PER_CLASS, seed)
    for code in range(len(index.label_names))
  ]
  sheet, rows = _contact_sheet(builder, store, chosen, kind)
  sections = [
    Section("Pictures of each class", _numbers(index)),
    Section("Contact sheet", [*_legend(kind), *sheet]),
    Section("Mean of each class", [_means(store, seed)]),
  ]
  durations = _durations(index)
  if durations:
    sections.append(Section("Lengths of the expressions", durations))
  facts = [("folder", str(builder.data_path)), ("version", str(builder.version))]
  facts += [(name, shown(value)) for name, value in vars(builder.options).items()]
  sections.append(Section("The dataset", [Table("", ("what", "value"), facts)]))
  lead: list[Block] = [Text(" ".join(builder.info.description.split())), _headline(index)]
  title = f"{builder.name}: {builder.config.name}"
  return Document(title, lead, sections), draw_sheet(title, MEANINGS.get(kind, ""), rows)


def choose(index: ExampleIndex, positions: np.ndarray, count: int, seed: int) -> np.ndarray:
  """Some of the given examples, drawn at random but taking subjects, and then clips, in turn."""
  drawn = np.random.default_rng(seed).permutation(positions)
  # Where subjects or clips are unknown, all count as one and the order stays as drawn.
  for names in (index.clip, index.subject):
    seen: collections.Counter[tuple[str, str, str]] = collections.Counter()
    turns = []
    for position in drawn:
      key = (index.database[position], index.subject[position], names[position])
      turns.append(seen[key])
      seen[key] += 1
    drawn = drawn[np.argsort(turns, kind="stable")]

  def place(position: int) -> tuple[Any, ...]:
    names = ("database", "subject", "clip", "frame")
    return (*(getattr(index, name)[position] for name in names), position)

  return np.array(sorted(drawn[:count], key=place), np.int64)


def _headline(index: ExampleIndex) -> KeyFigures:
  people = set(zip(index.database, index.subject, strict=True))
  known = all(subject for _, subject in people)
  figures = [
    ("pictures", f"{len(index):,}", " + ".join(f"{n:,} {s}" for s, n in _split_sizes(index))),
    ("classes", str(len(index.label_names)), ", ".join(index.label_names)),
    ("people", f"{len(people):,}" if known else "–", "" if known else "subjects are not known"),
  ]
  if clips := len(_clips(index)):
    figures.append(("clips", f"{clips:,}", ""))
  return KeyFigures(figures)


def _numbers(index: ExampleIndex) -> list[Block]:
  counts = {
    split: index.take(np.flatnonzero(index.split == split)).class_counts()
    for split, _ in _split_sizes(index)
  }
  told = "; ".join(
    f"{split}: {', '.join(f'{label} {number}' for label, number in classes.items())}"
    for split, classes in counts.items()
  )
  rows = []
  for code, label in enumerate(index.label_names):
    chosen = index.label == code
    people = set(zip(index.database[chosen], index.subject[chosen], strict=True))
    subjects = str(len(people)) if all(name for _, name in people) else "–"
    numbers = [f"{classes[label]:,}" for classes in counts.values()]
    rows.append([label, *numbers, subjects])
  table = Table("As a table, with subjects", ("class", *counts, "subjects"), rows, collapsed=True)
  return [Figure("counts.png", draw_counts(counts), f"Pictures per class. {told}."), table]


def _legend(kind: str) -> list[Block]:
  blocks: list[Block] = [Text(MEANINGS[kind])] if kind in MEANINGS else []
  if kind == "flow":
    alt = "Colours of motion: red grows from left to right, green downwards; strain adds blue."
    blocks.append(Figure("flow_colours.png", draw_flow_legend(), alt, "What the colours mean."))
  return blocks


def _contact_sheet(
  builder: Any, store: ImageStore, chosen: list[np.ndarray], kind: str
) -> tuple[list[Block], list[tuple[str, list[tuple[NDArray[np.uint8], str]]]]]:
  """Galleries for the page, and the rows of the sheet."""
  index = store.index
  # A picture of motion is hard to read without the face; synthetic clips can render it again.
  face_of = getattr(builder, "face", None) if kind == "flow" else None
  blocks: list[Block] = []
  rows = []
  for code, label in enumerate(index.label_names):
    total = int((index.label == code).sum())
    heading = f"{label}: {len(chosen[code])} of {total:,}"
    tiles, pictures = [], []
    for position in chosen[code]:
      image = _decode(store, int(position))
      lines = _lines(index, int(position))
      images = [(thumbnail(image, THUMBNAIL), f"{label}, {', '.join(lines)}")]
      if face_of is not None and (face := face_of(index.file[position])) is not None:
        images.append((thumbnail(face, THUMBNAIL), f"The face of {', '.join(lines)} at its apex"))
      tiles.append(Tile(images, lines[0], lines[1:]))
      pictures.append((image, "\n".join(lines[:2])))
    width = 105 if face_of is None else 220
    blocks.append(Gallery(tiles, heading=heading, tile_width=width))
    rows.append((heading, pictures))
  return blocks, rows


def _lines(index: ExampleIndex, position: int) -> list[str]:
  """What stands under a picture: subject, clip and frame; the file's name where all are unknown."""
  database, subject, clip = (
    getattr(index, name)[position] for name in ("database", "subject", "clip")
  )
  lines = [f"{database} {subject}".strip()] if subject else []
  if clip:
    frame = int(index.frame[position])
    lines.append(f"{clip} frame {frame}" if frame >= 0 else clip)
  if not clip:
    lines.append(shorten(pathlib.PurePosixPath(index.file[position]).stem, NAME))
  if len(set(index.split)) > 1:
    lines.append(index.split[position])
  return lines


def _means(store: ImageStore, seed: int) -> Gallery:
  index = store.index
  tiles = []
  for code, label in enumerate(index.label_names):
    members = np.flatnonzero(index.label == code)
    if not len(members):
      continue
    drawn = np.random.default_rng(seed).permutation(members)[:MEAN_COUNT]
    total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3))
    for start in range(0, len(drawn), 64):
      total += store.images(np.sort(drawn)[start : start + 64]).sum(0, dtype=np.float64)
    mean = np.rint(total / len(drawn)).astype(np.uint8)
    of = f" of {len(members):,}" if len(drawn) < len(members) else ""
    alt = f"Mean of {len(drawn)} pictures of {label}"
    tiles.append(Tile([(thumbnail(mean, MEAN_SIDE), alt)], label, [f"mean of {len(drawn)}{of}"]))
  return Gallery(tiles)


def _durations(index: ExampleIndex) -> list[Block]:
  clips = np.array(list(_clips(index).values()), int).reshape(-1, 3)
  tiles = []
  for title, first, last in (
    ("onset to apex", 0, 1),
    ("apex to offset", 1, 2),
    ("onset to offset", 0, 2),
  ):
    known = clips[(clips[:, first] >= 0) & (clips[:, last] >= 0)]
    if len(known):
      frames = known[:, last] - known[:, first]
      alt = (
        f"Frames from {title}: {frames.min()} to {frames.max()}, median {np.median(frames):g}, "
        f"{len(frames)} clips"
      )
      tiles.append(Tile([(draw_durations(frames, title), alt)], ""))
  if not tiles:
    return []
  lacking = int((clips < 0).any(1).sum())
  text = "Lengths are differences of frame numbers; seconds depend on the camera."
  if lacking:
    text += f" {lacking} of {len(clips)} clips lack an onset, apex or offset."
  return [Text(text), Gallery(tiles, tile_width=280)]


def _clips(index: ExampleIndex) -> dict[tuple[str, str, str], tuple[int, int, int]]:
  """(onset, apex, offset) of each clip that the dataset names."""
  rows = zip(
    index.database,
    index.subject,
    index.clip,
    *(index.onset.tolist(), index.apex.tolist(), index.offset.tolist()),
    strict=True,
  )
  return {row[:3]: row[3:] for row in rows if row[2]}


def _decode(store: ImageStore, position: int) -> NDArray[np.uint8]:
  """The stored picture as it is, uint8 [H, W, 3] RGB."""
  image = cv2.imdecode(np.frombuffer(store.encoded(position), np.uint8), cv2.IMREAD_COLOR_RGB)
  if image is None:
    raise ValueError(f"image {position} ({store.index.file[position]}) cannot be decoded")
  return np.asarray(image, np.uint8)


def _split_sizes(index: ExampleIndex) -> list[tuple[str, int]]:
  return [(split, int((index.split == split).sum())) for split in dict.fromkeys(index.split)]


def _split_order(name: str) -> tuple[int, str]:
  known = ("train", "validation", "test")
  return (known.index(name) if name in known else len(known), name)
