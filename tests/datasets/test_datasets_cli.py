"""Tests of `python -m jax_me data`: commands, output, exit codes and errors."""

import argparse
import dataclasses
import json

import pytest

from jax_me.__main__ import main
from jax_me.datasets import built_datasets
from jax_me.datasets.catalog import BUILDERS, builder_class, describe
from jax_me.datasets.option_flags import add_option_flags, attribute_docs, given_options
from jax_me.manifest import write_manifest
from tests.helpers.drawn_folder import build_folder, write_folder

COLUMNS = "file,label,subject"
ROWS = [{"label": label, "subject": f"p{i}"} for i in range(3) for label in ("calm", "glad")]


@pytest.fixture
def source(tmp_path):
  folder = write_folder(tmp_path / "source", ROWS, COLUMNS)
  (folder / "0.png").write_bytes(b"not an image")
  return folder


def run(*words) -> int:
  return main(["data", *map(str, words)])


def build(tmp_path, source, *words) -> int:
  return run(
    *("build", "labeled_images", "--manual-dir", source, "--data-dir", tmp_path / "data"),
    *("--no-align", "--workers", 0, *words),
  )


def test_build_and_build_again(tmp_path, source, capsys):
  assert build(tmp_path, source) == 0
  output = capsys.readouterr()
  assert "labeled_images: built, 5 train" in output.out and "1 unreadable" in output.err
  assert ["calm", "2"] in [line.split() for line in output.out.splitlines()]
  assert build(tmp_path, source) == 0
  output = capsys.readouterr()
  assert "labeled_images: already built, 5 train" in output.out
  assert "problems: 1 unreadable" in output.out and "0.png: unreadable" in output.out
  assert str(tmp_path / "data" / "labeled_images" / "original-") in output.out


def test_published_counts_are_a_table(tmp_path, source, capsys):
  assert build(tmp_path, source) == 0
  (path,) = (tmp_path / "data").glob("*/*/*/summary.json")
  summary = json.loads(path.read_text())
  row = {"split": "train", "class": "calm", "expected": 1200, "found": 1200, "stored": 2}
  summary["known_counts"] = [row, {**row, "class": "glad", "stored": 1200}]
  path.write_text(json.dumps(summary))
  write_manifest(path.parent)
  capsys.readouterr()
  assert build(tmp_path, source) == 0
  lines = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert ["train", "calm", "1200", "1200", "2", "differs"] in lines
  assert ["train", "glad", "1200", "1200", "1200"] in lines
  assert ["train", "all", "2400", "2400", "1202", "differs"] in lines


@pytest.mark.parametrize(
  ("words", "hint"),
  [
    (["build", "labelled_image"], "did you mean labeled_images"),
    (["build", "CASME-2"], "did you mean casme2"),
    (["build", "--workers", "2", "raf"], "did you mean raf_db"),
    (["check", "labeled_images", "--sise", "3"], "did you mean --size"),
    (["build", "demo_clips", "--size", "big"], "invalid int value: 'big'"),
    (["build"], "required: name"),
  ],
)
def test_misspelt_words_suggest_similar_ones(words, hint, capsys):
  with pytest.raises(SystemExit) as stopped:
    run(*words)
  assert stopped.value.code == 2 and hint in capsys.readouterr().err


def test_unusable_folders_are_errors(tmp_path, capsys):
  data = ("--data-dir", tmp_path / "data")
  assert run("build", "labeled_images", *data) == 2
  assert "needs manual_dir" in capsys.readouterr().err
  assert run("build", "labeled_images", "--manual-dir", tmp_path / "none", *data) == 2
  assert "is not a folder" in capsys.readouterr().err
  assert run("build", "demo_clips", "--size", 3, *data) == 2
  assert "size must be in [32, 512]" in capsys.readouterr().err
  assert run("build", "casme2", *data) == 2
  assert "--config" not in capsys.readouterr().err
  assert run("preview", "labeled_images", *data) == 2
  assert "is not built" in capsys.readouterr().err


def test_list_shows_available_and_built_datasets(tmp_path, source, capsys):
  assert build(tmp_path, source) == 0
  (tmp_path / "data" / "labeled_images" / "other-0" / "incomplete.1.0.0").mkdir(parents=True)
  capsys.readouterr()
  assert run("list", "--data-dir", tmp_path / "data") == 0
  output = capsys.readouterr().out
  for name in BUILDERS:
    assert f"\n{name}\n" in output
  assert "5 train; 0.1 MB; align=no" in output and "the build was interrupted" in output
  assert run("list", "--data-dir", tmp_path / "data", "--json") == 0
  document = json.loads(capsys.readouterr().out)
  assert {row["name"] for row in document["datasets"]} == set(BUILDERS)
  assert {"train": 5} in [row["examples"] for row in document["builds"]]
  assert run("list", "affectnet", "--data-dir", tmp_path) == 0
  output = capsys.readouterr().out
  assert "demo_clips" not in output and "validation" in output and "nothing" in output


def test_exit_code_of_check(tmp_path, capsys):
  data = ("--data-dir", tmp_path / "data")
  build_folder(tmp_path, ROWS, COLUMNS)
  assert run("check", "labeled_images", *data, "--no-faces", "--json", tmp_path / "check.json") == 0
  assert "valid for evaluation: 0 errors, 0 warnings" in capsys.readouterr().out
  assert json.loads((tmp_path / "check.json").read_text())["valid"] is True
  assert run("check", "labeled_images", *data, "--no-faces", "--split-rule", "official") == 1
  assert "NOT valid for evaluation: 1 errors" in capsys.readouterr().out
  (shard,) = (tmp_path / "data").rglob("*array_record*")
  shard.write_bytes(b"")
  assert run("check", "labeled_images", *data) == 1
  assert "build it again" in capsys.readouterr().err


def test_interrupted_build_is_an_error_of_one_line(tmp_path, capsys):
  (tmp_path / "demo_clips" / "flow_128-0" / "incomplete.1.0.0").mkdir(parents=True)
  for command in ("check", "preview"):
    assert run(command, "demo_clips", "--data-dir", tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the build was interrupted; repeat the data build command to continue it" in line


def test_several_builds_are_selected_by_option_or_variant(tmp_path, capsys):
  data = tmp_path / "data"
  build_folder(tmp_path, ROWS, COLUMNS)
  source = write_folder(tmp_path / "source", ROWS[::-1], COLUMNS)
  words = ("--manual-dir", source, "--data-dir", data, "--no-align", "--workers", 0)
  assert run("build", "labeled_images", *words, "--labels", "glad, calm") == 0
  assert run("check", "labeled_images", "--data-dir", data) == 2
  assert "2 builds" in capsys.readouterr().err
  build = built_datasets.find_build("labeled_images", data, {"labels": ("glad", "calm")})
  assert built_datasets.find_build("labeled_images", data, {}, build.variant[:-2]) == build
  assert built_datasets.open_build(build).labels == ("glad", "calm")
  with pytest.raises(ValueError, match="not built with these options"):
    built_datasets.find_build("labeled_images", data, {"size": 99}, build.variant)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_option_of_every_dataset_is_a_flag_with_help(name):
  options = builder_class(name).Options
  parser = argparse.ArgumentParser()
  add_option_flags(parser, options)
  assert given_options(parser.parse_args([])) == {}
  texts = attribute_docs(options)
  for field in dataclasses.fields(options):
    assert len(texts[field.name]) > 10, field.name
  description = describe(name)
  assert description.summary.endswith((".", ".)")) and description.options
  assert description.needs_files == bool(description.instructions)
  for command in ("build", "check", "preview"):
    with pytest.raises(SystemExit) as stopped:
      run(command, name, "--help")  # no option has the name of a flag of the command
    assert stopped.value.code == 0


def test_flags_of_all_types():
  @dataclasses.dataclass(frozen=True)
  class Base:
    """Settings.

    Attributes:
      align: crop 100% of faces,
        or not: as you like.
      share: of something.
    """

    align: bool = True
    share: float = 0.5

  @dataclasses.dataclass(frozen=True)
  class Options(Base):
    """More.

    Attributes:
      names: of classes.
      table: file, or None.

    Raises:
      ValueError: never.
    """

    names: tuple[str, ...] = ()
    table: str | None = None

  parser = argparse.ArgumentParser()
  add_option_flags(parser, Options)
  words = ["--no-align", "--share", "0.25", "--names", "a, b c", "--table=x"]
  given = given_options(parser.parse_args(words))
  assert given == {"align": False, "share": 0.25, "names": ("a", "b c"), "table": "x"}
  text = " ".join(parser.format_help().split())
  assert "crop 100% of faces, or not: as you like. (default yes)" in text and "never" not in text
