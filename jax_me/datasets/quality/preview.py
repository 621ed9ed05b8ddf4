"""Preview page of a built dataset: class counts, contact sheet, mean images, durations."""

from __future__ import annotations

import collections
import pathlib

import cv2
import numpy as np
from numpy.typing import NDArray

from jax_me.data.clip_inputs.inputs import MOTION_INPUTS
from jax_me.data.image_store import ImageStore
from jax_me.data.index import ExampleIndex
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.option_flags import format_value
from jax_me.datasets.quality.check import count_subjects
from jax_me.datasets.quality.preview_figures import (
  draw_contact_sheet,
  draw_counts,
  draw_durations,
  draw_flow_legend,
)
from jax_me.files import write_atomically
from jax_me.reports.document import (
  Block,
  Document,
  Figure,
  Gallery,
  KeyFigures,
  Section,
  Table,
  Text,
  Tile,
  to_html,
)
from jax_me.reports.figures import shorten, thumbnail

IMAGES_PER_CLASS = 8  # on the contact sheet
THUMBNAIL_SIDE = 160  # pixels, longer side
MAX_NAME_LENGTH = 24  # characters of a file name below an image; some names are hashes
MEAN_SIDE = 160  # pixels
MAX_IMAGES_IN_MEAN = 500  # per class

# Clip option `input` -> description of the images; see `jax_me.data.clip_inputs.inputs`.
INPUT_DESCRIPTIONS = {
  "key_frames": "Each clip gives three images: its onset, apex and offset frames.",
  "pair": "Each image combines two frames of a clip. Red is the onset frame in grey, green the "
  "apex frame in grey, blue their amplified difference: medium blue means no change, bright blue "
  "that the apex frame is brighter. Without motion, red and green are equal.",
  "dynamic": "Each image is a weighted sum of a clip's frames (rank pooling), with positive "
  "weights on later and negative weights on earlier frames; grey where nothing changes.",
  "flow": "Each image is the optical flow from onset to apex, not a face. Red is the horizontal "
  "component: brighter to the right, darker to the left. Green is the vertical component: brighter "
  "downwards, darker upwards. Blue is the optical strain: stretching or compression of the skin. "
  "Zero motion is olive (128, 128, 0).",
  "frames": "Each clip gives several images: frames evenly spaced from onset to offset.",
}


def write_preview(builder: FaceDataset, page: pathlib.Path, *, seed: int = 0) -> list[pathlib.Path]:
  """Writes the HTML page, and next to it the contact sheet as PNG.

  Args:
    builder: a built dataset.
    page: path of the page; the contact sheet has the same name with the suffix ".png".
    seed: seed of the random selection of images.

  Returns:
    paths of the page and the contact sheet.

  Raises:
    DamagedDataset: an image or the index cannot be read.
  """
  try:
    document, sheet = make_preview(builder, seed)
  except (ValueError, KeyError, OSError) as error:
    raise DamagedDataset(f"{builder.data_path}: {error}") from error
  png = page.with_suffix(".png")
  write_atomically(page, to_html(document).encode("utf-8"))
  write_atomically(png, sheet)
  return [page, png]


def make_preview(builder: FaceDataset, seed: int = 0) -> tuple[Document, bytes]:
  """Makes the content of the page, and the contact sheet as PNG bytes."""
  split = "+".join(sorted(builder.info.splits, key=_split_order))
  store = ImageStore(builder, split, image_size=MEAN_SIDE, cache_bytes=0)
  index = store.index
  clip_input = getattr(builder.options, "input", "")
  if isinstance(builder.options, ImageOptions) and clip_input not in MOTION_INPUTS:
    clip_input = ""  # Photographs were not chosen from clips.
  chosen = [
    sample_examples(index, np.flatnonzero(index.label == code), IMAGES_PER_CLASS, seed)
    for code in range(len(index.label_names))
  ]
  galleries, rows = _contact_sheet(builder, store, chosen, clip_input)
  sections = [
    Section("Images per class", _class_counts(index)),
    Section("Contact sheet", [*_input_legend(clip_input), *galleries]),
    Section("Mean image per class", [_mean_images(store, seed)]),
  ]
  durations = _durations(index)
  if durations:
    sections.append(Section("Durations of the expressions", durations))
  properties = [("folder", str(builder.data_path)), ("version", str(builder.version))]
  properties += [(name, format_value(value)) for name, value in vars(builder.options).items()]
  sections.append(Section("Build", [Table("", ("property", "value"), properties)]))
  lead: list[Block] = [Text(" ".join(builder.info.description.split())), _key_figures(index)]
  title = f"{builder.name}: {builder.config.name}"
  sheet = draw_contact_sheet(title, INPUT_DESCRIPTIONS.get(clip_input, ""), rows)
  return Document(title, lead, sections), sheet


def sample_examples(
  index: ExampleIndex, positions: np.ndarray, count: int, seed: int
) -> np.ndarray:
  """Samples examples at random, alternating between subjects and then between clips.

  Args:
    index: all examples.
    positions: int64 [N], the candidates.
    count: maximum number of examples.
    seed: seed of the random order.

  Returns:
    int64 [min(N, count)], sorted by database, subject, clip and frame.
  """
  drawn = np.random.default_rng(seed).permutation(positions)
  # Unknown subjects or clips count as one, which leaves the random order as it is.
  for names in (index.clip, index.subject):
    seen: collections.Counter[tuple[str, str, str]] = collections.Counter()
    turns = []
    for position in drawn:
      key = (index.database[position], index.subject[position], names[position])
      turns.append(seen[key])
      seen[key] += 1
    drawn = drawn[np.argsort(turns, kind="stable")]

  def sort_key(position: int) -> tuple[str | int, ...]:
    names = ("database", "subject", "clip", "frame")
    return (*(getattr(index, name)[position] for name in names), position)

  return np.array(sorted(drawn[:count], key=sort_key), np.int64)


def _key_figures(index: ExampleIndex) -> KeyFigures:
  subjects = count_subjects(index)
  figures = [
    ("images", f"{len(index):,}", " + ".join(f"{n:,} {s}" for s, n in _split_sizes(index))),
    ("classes", str(len(index.label_names)), ", ".join(index.label_names)),
    ("subjects", "–", "unknown") if subjects is None else ("subjects", f"{subjects:,}", ""),
  ]
  if clips := len(_clips(index)):
    figures.append(("clips", f"{clips:,}", ""))
  return KeyFigures(figures)


def _class_counts(index: ExampleIndex) -> list[Block]:
  counts = {
    split: index.take(np.flatnonzero(index.split == split)).class_counts()
    for split, _ in _split_sizes(index)
  }
  summary = "; ".join(
    f"{split}: {', '.join(f'{label} {count}' for label, count in classes.items())}"
    for split, classes in counts.items()
  )
  rows = []
  for code, label in enumerate(index.label_names):
    chosen = index.label == code
    subjects = count_subjects(index.take(np.flatnonzero(chosen)))
    cells = [f"{classes[label]:,}" for classes in counts.values()]
    rows.append([label, *cells, "–" if subjects is None else str(subjects)])
  table = Table("Table with subject counts", ("class", *counts, "subjects"), rows, collapsed=True)
  return [Figure("counts.png", draw_counts(counts), f"Images per class. {summary}."), table]


def _input_legend(clip_input: str) -> list[Block]:
  blocks: list[Block] = []
  if clip_input in INPUT_DESCRIPTIONS:
    blocks.append(Text(INPUT_DESCRIPTIONS[clip_input]))
  if clip_input == "flow":
    alt = "Colour code of flow: red increases to the right, green downwards; strain adds blue."
    blocks.append(
      Figure("flow_colours.png", draw_flow_legend(), alt, "Colour code.", photograph=True)
    )
  return blocks


def _contact_sheet(
  builder: FaceDataset, store: ImageStore, chosen: list[np.ndarray], clip_input: str
) -> tuple[list[Block], list[tuple[str, list[tuple[NDArray[np.uint8], str]]]]]:
  """Galleries for the page, and the rows of the contact sheet."""
  index = store.index
  # A flow image is hard to interpret without the face; synthetic datasets can render it again.
  face_of = getattr(builder, "face", None) if clip_input == "flow" else None
  blocks: list[Block] = []
  rows = []
  for code, label in enumerate(index.label_names):
    total = int((index.label == code).sum())
    heading = f"{label}: {len(chosen[code])} of {total:,}"
    tiles, captioned = [], []
    for position in chosen[code]:
      image = _decode(store, int(position))
      lines = _caption_lines(index, int(position))
      images = [(thumbnail(image, THUMBNAIL_SIDE), f"{label}, {', '.join(lines)}")]
      if face_of is not None and (face := face_of(index.file[position])) is not None:
        images.append((thumbnail(face, THUMBNAIL_SIDE), f"Apex frame of {', '.join(lines)}"))
      tiles.append(Tile(images, lines[0], lines[1:]))
      captioned.append((image, "\n".join(lines[:2])))
    width = 105 if face_of is None else 220
    blocks.append(Gallery(tiles, heading=heading, tile_width=width))
    rows.append((heading, captioned))
  return blocks, rows


def _caption_lines(index: ExampleIndex, position: int) -> list[str]:
  """Caption of an image: subject, then clip and frame or the file name, then the split."""
  database, subject, clip = (
    getattr(index, name)[position] for name in ("database", "subject", "clip")
  )
  lines = [f"{database} {subject}".strip()] if subject else []
  if clip:
    frame = int(index.frame[position])
    lines.append(f"{clip} frame {frame}" if frame >= 0 else clip)
  if not clip:
    lines.append(shorten(pathlib.PurePosixPath(index.file[position]).stem, MAX_NAME_LENGTH))
  if len(set(index.split)) > 1:
    lines.append(index.split[position])
  return lines


def _mean_images(store: ImageStore, seed: int) -> Gallery:
  index = store.index
  tiles = []
  for code, label in enumerate(index.label_names):
    members = np.flatnonzero(index.label == code)
    if not len(members):
      continue
    drawn = np.random.default_rng(seed).permutation(members)[:MAX_IMAGES_IN_MEAN]
    total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3))
    for start in range(0, len(drawn), 64):
      total += store.images(np.sort(drawn)[start : start + 64]).sum(0, dtype=np.float64)
    mean = np.rint(total / len(drawn)).astype(np.uint8)
    of = f" of {len(members):,}" if len(drawn) < len(members) else ""
    alt = f"Mean of {len(drawn)} images of {label}"
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
  incomplete = int((clips < 0).any(1).sum())
  text = "Durations are differences of frame numbers, not seconds."
  if incomplete:
    text += f" {incomplete} of {len(clips)} clips lack an onset, apex or offset."
  return [Text(text), Gallery(tiles, tile_width=280, charts=True)]


def _clips(index: ExampleIndex) -> dict[tuple[str, str, str], tuple[int, int, int]]:
  """(database, subject, clip) -> (onset, apex, offset) of all named clips."""
  rows = zip(
    index.database,
    index.subject,
    index.clip,
    *(index.onset.tolist(), index.apex.tolist(), index.offset.tolist()),
    strict=True,
  )
  return {row[:3]: row[3:] for row in rows if row[2]}


def _decode(store: ImageStore, position: int) -> NDArray[np.uint8]:
  """Decodes the stored image to uint8 [H, W, 3] RGB."""
  image = cv2.imdecode(np.frombuffer(store.encoded(position), np.uint8), cv2.IMREAD_COLOR_RGB)
  if image is None:
    raise ValueError(f"image {position} ({store.index.file[position]}) cannot be decoded")
  return np.asarray(image, np.uint8)


def _split_sizes(index: ExampleIndex) -> list[tuple[str, int]]:
  return [(split, int((index.split == split).sum())) for split in dict.fromkeys(index.split)]


def _split_order(name: str) -> tuple[int, str]:
  known = ("train", "validation", "test")
  return (known.index(name) if name in known else len(known), name)
