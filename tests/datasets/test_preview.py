"""Tests of the dataset preview: selected images, content and completeness of the page."""

import pathlib
import re

import cv2
import numpy as np
import pytest

from jax_me.data.index import make_index
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.catalog import prepare
from jax_me.datasets.quality.preview import (
  IMAGES_PER_CLASS,
  make_preview,
  sample_examples,
  write_preview,
)
from jax_me.datasets.quality.preview_figures import draw_durations, draw_flow_legend
from jax_me.reports.document import Figure, Gallery, KeyFigures, Text
from tests.helpers.drawn_folder import build_folder


def blocks(document, kind):
  return [block for part in document.sections for block in part.blocks if isinstance(block, kind)]


def section(document, title):
  return next(part for part in document.sections if part.title == title)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
  """Clips of two subjects with onset, apex and offset; one apex is unknown."""
  columns = "file,label,subject,clip,frame,onset,apex,offset"
  rows = [
    {
      "label": ("calm", "<b>glad")[clip % 2],
      "subject": f"p{subject}",
      "clip": f"c{clip}",
      "frame": frame,
      "onset": 10,
      "apex": "" if (subject, clip) == (0, 0) else 14,
      "offset": 20 + clip,
    }
    for subject in range(2)
    for clip in range(3)
    for frame in (12, 14)
  ]
  return build_folder(tmp_path_factory.mktemp("clips"), rows, columns)


def test_page_and_contact_sheet_are_self_contained_and_reproducible(tmp_path, clips):
  page, sheet = write_preview(clips, tmp_path / "deep" / "page.html")
  text = page.read_text(encoding="utf-8")
  assert page.name == "page.html" and sheet.name == "page.png"
  assert cv2.imread(str(sheet)) is not None
  assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", text) and "<script" not in text
  assert "<b>glad" not in text and "&lt;b&gt;glad" in text
  assert "c2 frame 14" in text and "<strong>p1</strong>" in text
  again, _ = write_preview(clips, tmp_path / "again.html")
  assert again.read_bytes() == page.read_bytes()


def test_content_of_the_page(clips):
  document, _ = make_preview(clips)
  (figures,) = (block for block in document.lead if isinstance(block, KeyFigures))
  assert [(name, value) for name, value, _ in figures.values] == [
    ("images", "12"),
    ("classes", "2"),
    ("subjects", "2"),
    ("clips", "6"),
  ]
  sheets = [block for block in section(document, "Contact sheet").blocks]
  assert [gallery.heading for gallery in sheets] == ["<b>glad: 4 of 4", "calm: 8 of 8"]
  means = section(document, "Mean image per class").blocks[0]
  assert [tile.lines for tile in means.tiles] == [["mean of 4"], ["mean of 8"]]
  text = " ".join(block.text for block in blocks(document, Text))
  assert "1 of 6 clips lack" in text
  durations = section(document, "Durations of the expressions").blocks[1]
  alts = [alt for tile in durations.tiles for _, alt in tile.images]
  assert alts[0] == "Frames from onset to apex: 4 to 4, median 4, 5 clips"
  assert alts[2] == "Frames from onset to offset: 10 to 12, median 11, 6 clips"


def test_mean_image(tmp_path):
  rows = [{"label": "calm", "drawn": i} for i in range(2)]
  document, _ = make_preview(build_folder(tmp_path, rows, "file,label"))
  (gallery,) = section(document, "Mean image per class").blocks
  encoded = gallery.tiles[0].images[0][0]
  mean = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).astype(float)
  images = [
    cv2.resize(cv2.imread(str(tmp_path / "source" / f"{i}.png")), mean.shape[:2][::-1])
    for i in range(2)
  ]
  np.testing.assert_allclose(mean, np.mean(images, 0), atol=1)


def test_photographs_have_no_clips_or_durations(tmp_path):
  rows = [{"label": "calm", "split": split} for split in ("test", "train", "train")]
  document, _ = make_preview(build_folder(tmp_path, rows, "file,label,split"))
  titles = [part.title for part in document.sections]
  assert "Durations of the expressions" not in titles
  figures = document.lead[-1].values
  assert ("images", "3", "2 train + 1 test") in figures
  assert ("subjects", "–", "unknown") in figures
  tile = section(document, "Contact sheet").blocks[0].tiles[0]
  assert (tile.heading, list(tile.lines)) == ("1", ["train"])


def test_samples_alternate_between_subjects_and_clips():
  rows = [
    {"subject": subject, "clip": f"c{clip}", "frame": frame, "label": 0}
    for subject, clips in (("a", 9), ("b", 3), ("c", 1))
    for clip in range(clips)
    for frame in range(4)
  ]
  index = make_index(["calm"], rows)
  chosen = sample_examples(index, np.arange(len(index)), IMAGES_PER_CLASS, seed=0)
  subjects = index.subject[chosen].tolist()
  assert subjects == sorted(subjects)
  assert [subjects.count(name) for name in "abc"] == [3, 3, 2]
  pairs = set(zip(index.subject[chosen], index.clip[chosen], strict=True))
  assert sum(subject == "b" for subject, _ in pairs) == 3
  assert (chosen == sample_examples(index, np.arange(len(index)), IMAGES_PER_CLASS, seed=0)).all()
  unknown = make_index(["calm"], [{"label": 0}] * 20)
  assert len(set(sample_examples(unknown, np.arange(20), 8, seed=1))) == 8


def test_flow_preview_has_a_colour_legend(tmp_path):
  builder = prepare("demo_clips", data_dir=str(tmp_path), subjects=1, clips=3, size=32, workers=0)
  document, _ = make_preview(builder)
  sheet = section(document, "Contact sheet").blocks
  assert "Red is the horizontal" in sheet[0].text and isinstance(sheet[1], Figure)
  galleries = [block for block in sheet if isinstance(block, Gallery)]
  # The flow image and the apex frame.
  assert all(len(tile.images) == 2 for gallery in galleries for tile in gallery.tiles)


def test_flow_legend_is_olive_for_zero_motion():
  legend = cv2.imdecode(np.frombuffer(draw_flow_legend(), np.uint8), cv2.IMREAD_COLOR_RGB)
  olive = (np.abs(legend.astype(int) - (128, 128, 0)).max(-1) < 4).sum()
  assert olive > 10


@pytest.mark.parametrize("frames", [[7], [1, 500], list(range(30))])
def test_durations_of_any_range(frames):
  assert draw_durations(np.array(frames), "onset to apex").startswith(b"\x89PNG")


def test_damage_is_reported_in_one_line(tmp_path):
  builder = build_folder(tmp_path, [{"label": "calm"}], "file,label")
  (pathlib.Path(builder.data_path) / "index-train.jsonl").unlink()
  with pytest.raises(DamagedDataset, match="index-train.jsonl is missing"):
    write_preview(builder, tmp_path / "page.html")
  assert not (tmp_path / "page.html").exists()
