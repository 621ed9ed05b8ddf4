"""The preview of a dataset: which pictures it shows, and that its page is whole."""

import pathlib
import re

import cv2
import numpy as np
import pytest

from jax_me.data.index import make_index
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.catalog import prepare
from jax_me.datasets.quality.preview import PER_CLASS, choose, compose, write_preview
from jax_me.datasets.quality.preview_figures import draw_durations, draw_flow_legend
from jax_me.reports.document import Figures, Gallery, Picture, Text
from tests.helpers.drawn_folder import build_folder


def blocks(document, kind):
  return [block for part in document.sections for block in part.blocks if isinstance(block, kind)]


def section(document, title):
  return next(part for part in document.sections if part.title == title)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
  """Two people's clips with onset, apex and offset; one apex is unknown."""
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


def test_page_and_sheet_are_whole_and_repeatable(tmp_path, clips):
  page, sheet = write_preview(clips, tmp_path / "deep" / "page.html")
  text = page.read_text(encoding="utf-8")
  assert page.name == "page.html" and sheet.name == "page.png"
  assert cv2.imread(str(sheet)) is not None
  assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", text) and "<script" not in text
  assert "<b>glad" not in text and "&lt;b&gt;glad" in text
  assert "c2 frame 14" in text and "<strong>p1</strong>" in text
  again, _ = write_preview(clips, tmp_path / "again.html")
  assert again.read_bytes() == page.read_bytes()


def test_numbers_of_the_page(clips):
  document, _ = compose(clips)
  (figures,) = (block for block in document.lead if isinstance(block, Figures))
  assert [(name, value) for name, value, _ in figures.figures] == [
    ("pictures", "12"),
    ("classes", "2"),
    ("people", "2"),
    ("clips", "6"),
  ]
  sheets = [block for block in section(document, "Contact sheet").blocks]
  assert [gallery.heading for gallery in sheets] == ["<b>glad: 4 of 4", "calm: 8 of 8"]
  means = section(document, "Mean of each class").blocks[0]
  assert [tile.lines for tile in means.tiles] == [["mean of 4"], ["mean of 8"]]
  told = " ".join(block.text for block in blocks(document, Text))
  assert "1 of 6 clips lack" in told
  lengths = section(document, "Lengths of the expressions").blocks[1]
  alts = [alt for tile in lengths.tiles for _, alt in tile.images]
  assert alts[0] == "Frames from onset to apex: 4 to 4, median 4, 5 clips"
  assert alts[2] == "Frames from onset to offset: 10 to 12, median 11, 6 clips"


def test_mean_is_that_of_the_pictures(tmp_path):
  rows = [{"label": "calm", "drawn": i} for i in range(2)]
  document, _ = compose(build_folder(tmp_path, rows, "file,label"))
  (gallery,) = section(document, "Mean of each class").blocks
  encoded = gallery.tiles[0].images[0][0]
  mean = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).astype(float)
  pictures = [
    cv2.resize(cv2.imread(str(tmp_path / "source" / f"{i}.png")), mean.shape[:2][::-1])
    for i in range(2)
  ]
  np.testing.assert_allclose(mean, np.mean(pictures, 0), atol=1)


def test_photographs_have_no_clips_or_lengths(tmp_path):
  rows = [{"label": "calm", "split": split} for split in ("test", "train", "train")]
  document, _ = compose(build_folder(tmp_path, rows, "file,label,split"))
  titles = [part.title for part in document.sections]
  assert "Lengths of the expressions" not in titles
  figures = document.lead[-1].figures
  assert ("pictures", "3", "2 train + 1 test") in figures
  assert ("people", "–", "subjects are not known") in figures
  tile = section(document, "Contact sheet").blocks[0].tiles[0]
  assert (tile.heading, list(tile.lines)) == ("1", ["train"])


def test_chosen_pictures_take_people_then_clips_in_turn():
  rows = [
    {"subject": subject, "clip": f"c{clip}", "frame": frame, "label": 0}
    for subject, clips in (("a", 9), ("b", 3), ("c", 1))
    for clip in range(clips)
    for frame in range(4)
  ]
  index = make_index(["calm"], rows)
  chosen = choose(index, np.arange(len(index)), PER_CLASS, seed=0)
  subjects = index.subject[chosen].tolist()
  assert subjects == sorted(subjects)
  assert [subjects.count(name) for name in "abc"] == [3, 3, 2]
  pairs = set(zip(index.subject[chosen], index.clip[chosen], strict=True))
  assert sum(subject == "b" for subject, _ in pairs) == 3
  assert (chosen == choose(index, np.arange(len(index)), PER_CLASS, seed=0)).all()
  unknown = make_index(["calm"], [{"label": 0}] * 20)
  assert len(set(choose(unknown, np.arange(20), 8, seed=1))) == 8


def test_flow_says_what_its_colours_mean(tmp_path):
  builder = prepare("demo_clips", data_dir=str(tmp_path), subjects=1, clips=3, size=32, workers=0)
  document, _ = compose(builder)
  shown = section(document, "Contact sheet").blocks
  assert "Red is horizontal" in shown[0].text and isinstance(shown[1], Picture)
  galleries = [block for block in shown if isinstance(block, Gallery)]
  # Motion, and the face that moves.
  assert all(len(tile.images) == 2 for gallery in galleries for tile in gallery.tiles)


def test_flow_legend_is_olive_where_nothing_moves():
  picture = cv2.imdecode(np.frombuffer(draw_flow_legend(), np.uint8), cv2.IMREAD_COLOR_RGB)
  olive = (np.abs(picture.astype(int) - (128, 128, 0)).max(-1) < 4).sum()
  assert olive > 10


@pytest.mark.parametrize("frames", [[7], [1, 500], list(range(30))])
def test_durations_of_any_range(frames):
  assert draw_durations(np.array(frames), "onset to apex").startswith(b"\x89PNG")


def test_damage_is_one_clear_line(tmp_path):
  builder = build_folder(tmp_path, [{"label": "calm"}], "file,label")
  (pathlib.Path(builder.data_path) / "index-train.jsonl").unlink()
  with pytest.raises(DamagedDataset, match="index-train.jsonl is missing"):
    write_preview(builder, tmp_path / "page.html")
  assert not (tmp_path / "page.html").exists()
