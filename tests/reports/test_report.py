import html.parser
import io
import json

import numpy as np
import pytest
from PIL import Image

from jax_me.__main__ import main
from jax_me.evaluation.predictions import Predictions
from jax_me.reports.run_report import read_scores, write_report
from jax_me.reports.sample_sections import choose_samples
from jax_me.reports.saved_report import IncompleteReport, SamplePrediction, SavedReport
from jax_me.training.logging.history import read_history

HOSTILE = '<script>alert("x")</script> & $\\frac{$ | *b*'
VOID = {"meta", "img"}


class Page(html.parser.HTMLParser):
  """Collects texts and tags of a page, and fails on tags that do not nest."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.texts, self.attributes = [], [], [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)

  @property
  def text(self):
    return " ".join(" ".join(self.texts).split())

  def of(self, tag):
    return [attributes for name, attributes in self.attributes if name == tag]


def read(folder):
  return Page((folder / "report.html").read_text(encoding="utf-8"))


def write(folder, **parts):
  return write_report(folder, SavedReport(**parts))


def face(seed=0, size=40):
  return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def predictions(labels=("negative", "positive", "surprise"), folds=2, subjects=6):
  generator = np.random.default_rng(0)
  count = 4 * subjects
  return Predictions.from_scores(
    generator.dirichlet(np.ones(len(labels)), count),
    np.arange(count) % len(labels),
    labels,
    subject=[f"s{i // 4}" for i in range(count)],
    file=[f"{i}.png" for i in range(count)],
    fold=[f"fold {(i // 4) % folds}" for i in range(count)] if folds else "",
  )


def history(folds=()):
  rows = []
  for fold in folds or [None]:
    for step in range(1, 81):
      row = {"step": step, "epoch": step / 8, "train/loss": 2 / step, "learning_rate": 1e-3}
      row |= {"images_per_second": 100.0, "train/accuracy": 0.5}
      rows.append(row if fold is None else {**row, "fold": fold})
      if step % 20 == 0:
        rows.append({"step": step, "test/uf1": step / 100, **({"fold": fold} if fold else {})})
  return rows


def samples():
  return [
    SamplePrediction(face(1), 0, 0, 0.9, "1.png"),
    SamplePrediction(face(2, 300), 0, "surprise"),
  ]


def reconstructions(count=3):
  stack = np.stack([face(i, 32) for i in range(count)])
  return {"original": stack, "masked": stack // 2, "reconstructed": stack // 3}


def everything():
  return {
    "title": "A run",
    "predictions": predictions(),
    "history": history(),
    "samples": samples(),
    "reconstructions": reconstructions(),
    "details": {"model": "vit_tiny", "parameters": 5_526_531, "lr": 0.1 + 0.2, "ema": None},
  }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole") / "run"
  assert write(folder, **everything()) == folder / "report.html"
  return folder


@pytest.mark.slow
def test_whole_report(whole):
  page = read(whole)
  for heading in (
    "Confusion matrix",
    "Classes",
    "Folds",
    "Subjects",
    "Sample predictions",
    "Reconstructions",
    "Learning curves",
    "Details",
  ):
    assert heading in page.text
  assert "mean over folds, not comparable with the pooled scores" in page.text
  assert "5,526,531" in page.text and "0.3" in page.text
  assert "wrong: surprise" in page.text and "truth: negative" in page.text
  scores = json.loads((whole / "report" / "scores.json").read_text())
  assert f"UF1 {scores['pooled']['uf1']:.3f}" in page.text


def test_page_is_self_contained_and_images_have_alt_texts(whole):
  page = read(whole)
  assert page.of("html") == [{"lang": "en"}]
  assert "default-src 'none'" in page.of("meta")[1]["content"]
  assert not {"script", "link", "iframe", "a"} & set(page.tags)
  images = page.of("img")
  assert (
    len(images) == 1 + 1 + 2 + 9 + 4
  )  # confusion, reliability, samples, reconstructions, curves
  for image in images:
    assert image["src"].startswith("data:image/png;base64,")
    assert len(image["alt"]) > 10
  assert "url(" not in (whole / "report.html").read_text()


def test_markdown_refers_to_existing_figures(whole):
  text = (whole / "report.md").read_text()
  names = sorted(path.name for path in (whole / "report").glob("*.png"))
  assert names == [
    "confusion_matrix.png",
    "learning_curves.png",
    "reconstructions.png",
    "reliability.png",
    "samples.png",
  ]
  for name in names:
    assert f"(report/{name})" in text
    with Image.open(whole / "report" / name) as image:
      assert image.format == "PNG" and min(image.size) > 100
      assert np.asarray(image.convert("L")).std() > 5


def test_texts_from_data_are_escaped(tmp_path):
  write(
    tmp_path,
    title=HOSTILE,
    predictions=Predictions(
      (HOSTILE, "b"), [0, 1], [1, 1], subject=[HOSTILE, "s\udcff"], file=["x", "y"]
    ),
    samples=[SamplePrediction(face(), HOSTILE, "b", caption=HOSTILE)],
    details={HOSTILE: HOSTILE},
  )
  raw = (tmp_path / "report.html").read_text(encoding="utf-8")
  assert "<script" not in raw
  page = read(tmp_path)
  assert page.text.count('<script>alert("x")</script>') >= 6
  assert "s\\udcff" in page.text
  for line in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines():
    assert "<script" not in line.replace("\\<", "")


def test_wrong_samples_are_marked_by_more_than_colour(tmp_path):
  write(tmp_path, title="t", predictions=predictions(), samples=samples())
  page = read(tmp_path)
  assert page.of("li") == [{}, {"class": "marked"}]
  assert "✓ negative 90%" in page.text and "✗ wrong: surprise" in page.text


@pytest.mark.slow
@pytest.mark.parametrize("part", ["predictions", "history", "reconstructions", "details"])
def test_any_single_part_makes_a_report(tmp_path, part):
  write(tmp_path, title="t", **{part: everything()[part]})
  assert "no results yet" not in read(tmp_path).text
  assert (tmp_path / "report.md").stat().st_size > 20


def test_report_without_results(tmp_path):
  write(tmp_path, title="t", history=read_history(tmp_path / "metrics.jsonl"))
  assert "no results yet" in read(tmp_path).text


@pytest.mark.slow
def test_pretraining_has_no_scores(tmp_path):
  write(tmp_path, title="MAE", history=history(), reconstructions=reconstructions())
  page = read(tmp_path)
  assert "UF1" not in page.text and "Confusion" not in page.text
  assert not (tmp_path / "report" / "scores.json").exists()
  with pytest.raises(ValueError, match="has no scores. The model has no classes"):
    read_scores(tmp_path)


@pytest.mark.slow
def test_files_of_an_older_report_are_deleted(tmp_path):
  write(tmp_path, **everything())
  write(tmp_path, title="t", history=history())
  assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
    "facts.json",
    "history.jsonl",
    "learning_curves.png",
  ]


def test_leave_one_subject_out_has_no_table_of_folds(tmp_path):
  write(tmp_path, title="t", predictions=predictions(folds=6, subjects=6))
  page = read(tmp_path)
  assert "Scores within each subject" in page.text
  assert "Scores within each fold" not in page.text


def test_missing_classes_are_reported(tmp_path):
  table = Predictions(("a", "b", "c"), [0, 1], [0, 2], file=["1", "2"])
  write(tmp_path, title="t", predictions=table)
  assert "c: no examples, so it has no recall" in read(tmp_path).text


@pytest.mark.slow
@pytest.mark.parametrize(
  "rows",
  [
    [{"step": 1, "train/loss": float("nan")}, {"step": 2, "train/loss": 1.0}],
    [{"step": 0, "train/loss": 0.0, "lr": 0.0}],
    [{"step": 1, "epoch": "first", "train/loss": 1.0}],
    [{"step": 1, "fold": "a", "loss": 1.0}, {"step": 5, "fold": "b", "loss": 1.0}],
    history(["fold 1", "fold 2"]),
  ],
)
def test_unusual_histories_are_drawn(tmp_path, rows):
  write(tmp_path, title="t", history=rows)
  assert "Learning curves" in read(tmp_path).text


def test_non_finite_values_are_counted(tmp_path):
  rows = [{"step": 1, "train/loss": float("inf")}, {"step": 2, "train/loss": 1.0}]
  write(tmp_path, title="t", history=rows)
  assert "NaN or infinite and not drawn: 1." in read(tmp_path).text


@pytest.mark.parametrize(
  ("make_part", "message"),
  [
    (lambda: {"samples": [SamplePrediction(face() / 255, "a", "b")]}, "uint8"),
    (lambda: {"samples": [SamplePrediction(face(), 0, 1)]}, "no predictions"),
    (lambda: {"reconstructions": {**reconstructions(), "masked": face()[None]}}, "'masked'"),
  ],
)
def test_invalid_data_are_rejected_and_nothing_is_written(tmp_path, make_part, message):
  with pytest.raises(ValueError, match=message):
    write(tmp_path / "run", title="t", **make_part())
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_figures_do_not_change_matplotlib_settings(tmp_path):
  import matplotlib

  before = {key: repr(value) for key, value in dict.items(matplotlib.rcParams)}
  write(tmp_path, **everything())
  assert {key: repr(value) for key, value in dict.items(matplotlib.rcParams)} == before


@pytest.mark.slow
def test_confusion_figure_of_many_classes_has_a_limited_size(tmp_path):
  labels = [f"a long class name {i}" for i in range(24)]
  write(tmp_path, title="t", predictions=predictions(labels))
  with Image.open(tmp_path / "report" / "confusion_matrix.png") as image:
    assert max(image.size) < 3500


def test_chosen_samples_are_half_wrong_and_spread_over_classes():
  truth = np.array([0] * 80 + [1] * 10 + [2] * 10)
  prediction = truth.copy()
  prediction[[0, 1, 2, 3, 80, 90, 91]] = [1, 1, 1, 1, 0, 0, 0]
  table = Predictions(("a", "b", "c"), truth, prediction, file=[str(i) for i in range(100)])
  rows = choose_samples(table, 12)
  assert len(set(rows)) == 12 and rows == choose_samples(table, 12)
  right = [row for row in rows if table.correct[row]]
  assert rows[: len(right)] == right and len(right) == 6
  assert np.bincount(truth[right], minlength=3).tolist() == [2, 2, 2]
  assert {80, 90, 91} <= set(rows)


@pytest.mark.parametrize(("wrong", "expected"), [(0, 0), (2, 2), (18, 10), (20, 12)])
def test_chosen_samples_when_wrong_or_correct_ones_are_rare(wrong, expected):
  truth = np.zeros(20, int)
  prediction = (np.arange(20) < wrong).astype(int)
  table = Predictions(("a", "b"), truth, prediction, file=[str(i) for i in range(20)])
  rows = choose_samples(table, 12)
  assert len(rows) == 12
  assert sum(not table.correct[row] for row in rows) == expected


def run_command(*arguments):
  return main(["report", *map(str, arguments)])


@pytest.mark.slow
def test_command_writes_the_same_report_again(tmp_path, capsys):
  write(tmp_path, **everything())
  page, text = (tmp_path / "report.html").read_bytes(), (tmp_path / "report.md").read_bytes()
  (tmp_path / "report.html").unlink()
  (tmp_path / "report.md").unlink()
  assert run_command(tmp_path) == 0
  assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
  assert (tmp_path / "report.html").read_bytes() == page
  assert (tmp_path / "report.md").read_bytes() == text


def test_command_reads_the_log_of_a_continued_training(tmp_path):
  write(tmp_path, title="old", history=[{"step": 1, "train/loss": 2.0}])
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 0.125}\n')
  assert run_command(tmp_path, "--title", "new") == 0
  page = read(tmp_path)
  assert page.of("img")[0]["alt"].endswith("loss: train/loss 0.125.")
  assert page.text.startswith("new")


@pytest.mark.slow
def test_command_reports_missing_or_damaged_files(tmp_path, capsys):
  assert run_command(tmp_path / "none") == 1
  assert "is not the folder of a run" in capsys.readouterr().err
  write(tmp_path, **everything())
  before = (tmp_path / "report.html").read_bytes()
  (tmp_path / "report" / "samples.npz").write_bytes(b"PK\x03\x04 truncated")
  assert run_command(tmp_path) == 1
  error = capsys.readouterr().err
  assert "samples.npz has 14 bytes instead of" in error and error.count("\n") == 1
  assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.slow
def test_pickles_in_a_report_folder_are_not_loaded(tmp_path):
  write(tmp_path, **everything())
  buffer = io.BytesIO()
  np.savez(buffer, texts=np.array([{"a": 1}], dtype=object))
  (tmp_path / "report" / "samples.npz").write_bytes(buffer.getvalue())
  with pytest.raises(IncompleteReport, match="samples.npz"):
    SavedReport.load(tmp_path / "report")
