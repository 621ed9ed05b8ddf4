"""Progress display without a terminal."""

from jax_me import progress


def test_lines_show_number_speed_and_time_left(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
  assert list(progress.show_progress(iter([1, 2]), "toy", 2)) == [1, 2]
  lines = capsys.readouterr().err.splitlines()
  # The first image may contain a compilation, so it tells nothing about the speed.
  assert lines[0] == "toy: 1/2 images"
  assert lines[1].startswith("toy: 2/2 images, ") and lines[1].endswith("/s, 0 s left")
  assert lines[-1].startswith("toy: 2 images in ")


def test_an_unknown_total_shows_no_time_left(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
  list(progress.show_progress(range(2), "toy", None))
  second = capsys.readouterr().err.splitlines()[1]
  assert second.startswith("toy: 2 images, ") and second.endswith("/s")


def test_files_done_before_do_not_count_towards_the_speed(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
  counter = progress.Progress("toy", 1000, done=998)
  counter.advance()
  counter.close()
  first, last = capsys.readouterr().err.splitlines()
  assert first.startswith("toy: 999/1000 images") and last.startswith("toy: 1 images in ")


def test_several_or_no_images_at_once(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
  counter = progress.Progress("toy", 10)
  for count in (0, 4):
    counter.advance(count)
  counter.close()
  first, last = capsys.readouterr().err.splitlines()
  assert first.startswith("toy: 4/10 images") and last.startswith("toy: 4 images in ")


def test_quiet_prints_nothing(capsys):
  counter = progress.Progress("toy", 2, quiet=True)
  counter.advance()
  counter.close()
  assert capsys.readouterr().err == ""


def test_steps_can_be_skipped_and_repeated(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
  counter = progress.Progress("fold", 9, unit="step")
  counter.skip(4)
  counter.advance()
  counter.advance(loss="0.5")
  counter.go_to(2)
  counter.advance()
  counter.close()
  first, resumed, repeated, last = capsys.readouterr().err.splitlines()
  assert first == "fold: 5/9 steps"
  assert resumed.startswith("fold: 6/9 steps, ") and resumed.endswith(" s left, loss 0.5")
  assert repeated == "fold: 3/9 steps" and last.startswith("fold: 1 steps in ")
