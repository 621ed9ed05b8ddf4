"""Datasets built by version 0.1 open without being built again."""

import json
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from jax_me.data.index import read_index
from jax_me.data.labels import label_mapping
from jax_me.datasets.built_datasets import find_build, list_builds, open_build
from jax_me.datasets.catalog import prepare
from jax_me.datasets.generation import prepare as preparation

# Modules of version 0.1, which TFDS wrote into dataset_info.json.
MODULES = {
  "demo_clips": "jax_me.data.builders.demo_clips",
  "labeled_images": "jax_me.data.builders.labeled_images",
}
DEMO = {"subjects": 1, "clips": 1, "size": 48}
# Folder that version 0.1 made for these options: another name would mean another build.
DEMO_VARIANT = "flow_48-6618cb9e7122"
OLD_LABELS = ["half_smile", "no-expression", "sad"]


def edit_json(path: pathlib.Path, **changes) -> None:
  content = json.loads(path.read_text(encoding="utf-8"))
  assert changes.keys() <= content.keys()
  path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def as_version_0_1(folder: pathlib.Path, variant: str) -> pathlib.Path:
  """Changes what version 0.1 wrote differently; returns the folder under its new name."""
  identity = folder / "identity.json"
  options = json.loads(identity.read_text(encoding="utf-8"))["options"]
  del options["detector"]  # HOG was the only one
  edit_json(identity, options=options)
  edit_json(
    folder / "dataset_info.json", moduleName=MODULES[folder.parents[1].name], configName=variant
  )
  (folder / "manifest.json").unlink()
  summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
  del summary["checksums"]
  (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
  target = folder.parents[1] / variant
  folder.parent.rename(target)
  return target / folder.name


@pytest.fixture
def no_build(monkeypatch):
  monkeypatch.setattr(preparation, "generate", lambda builder: pytest.fail("built again"))


def test_demo_clips(tmp_path, request):
  builder = prepare("demo_clips", data_dir=str(tmp_path), workers=0, detector="hog", **DEMO)
  images = [example["image"] for example in builder.as_data_source("train")]
  folder = as_version_0_1(pathlib.Path(builder.data_path), DEMO_VARIANT)
  request.getfixturevalue("no_build")
  (build,) = list_builds(tmp_path)
  builders = [
    prepare("demo_clips", data_dir=str(tmp_path), workers=0, **DEMO),
    prepare("demo_clips", data_dir=str(tmp_path), workers=0, detector="hog", **DEMO),
    open_build(build),
    tfds.builder_from_directory(str(folder)),
  ]
  for opened in builders:
    assert pathlib.Path(opened.data_path) == folder
    np.testing.assert_array_equal(
      [example["image"] for example in opened.as_data_source("train")], images
    )
    assert len(read_index(opened)) == len(images)
  assert all(opened.options.detector == "hog" for opened in builders[:3])
  assert find_build("demo_clips", tmp_path, {"detector": "hog"}).folder == folder


def test_another_detector_leads_to_another_build(tmp_path):
  builds = [
    prepare("demo_clips", data_dir=str(tmp_path), workers=0, detector=name, **DEMO)
    for name in ("hog", "yunet+hog")
  ]
  assert builds[0].data_path != builds[1].data_path
  default = prepare("demo_clips", data_dir=str(tmp_path), workers=0, **DEMO)
  assert default.data_path == builds[1].data_path
  first, second = (next(iter(build.as_data_source("train")))["image"] for build in builds)
  assert np.abs(first.astype(int) - second).mean() < 12  # the same face, slightly shifted
  with pytest.raises(ValueError, match=r"detector must be one of yunet\+hog, hog, yunet"):
    prepare("demo_clips", data_dir=str(tmp_path), workers=0, detector="haar", **DEMO)


@pytest.fixture
def old_folder(tmp_path):
  """A labelled folder, and its build as version 0.1 left it, with its spelling of the labels."""
  source, data = tmp_path / "source", tmp_path / "data"
  for number, name in enumerate(("Half_Smile", "no-expression", "Sad")):
    (source / name).mkdir(parents=True)
    cv2.imwrite(str(source / name / "x.png"), np.full((8, 8, 3), 20 * number, np.uint8))
  builder = prepare(
    "labeled_images", data_dir=str(data), manual_dir=str(source), workers=0, align=False
  )
  assert builder.labels == ("half smile", "no expression", "sad")
  folder = as_version_0_1(pathlib.Path(builder.data_path), "original-9c744ad8d492")
  edit_json(folder / "identity.json", labels=OLD_LABELS)
  (folder / "label.labels.txt").write_text("\n".join(OLD_LABELS) + "\n")
  return source, data


@pytest.mark.parametrize("with_files", [True, False])
@pytest.mark.parametrize("order", [[], ["Half smile", "no_expression", "sad"]])
def test_labels_of_another_spelling(old_folder, no_build, with_files, order):
  source, data = old_folder
  (identity,) = data.rglob("identity.json")
  options = {"align": False, "size": 224, "on_no_face": "skip", "encoding": "png"}
  edit_json(identity, options={**options, "labels": OLD_LABELS if order else []})
  files = {"manual_dir": str(source)} if with_files else {}
  builder = prepare(
    "labeled_images", data_dir=str(data), workers=0, align=False, labels=order, **files
  )
  index = read_index(builder)
  assert builder.labels == index.label_names == tuple(OLD_LABELS)
  assert sorted(zip(index.file, index.label, strict=True)) == [
    ("Half_Smile/x.png", 0),
    ("Sad/x.png", 2),
    ("no-expression/x.png", 1),
  ]
  assert len(builder.as_data_source("train")) == 3
  assert label_mapping(index.label_names, ("sad", "Half Smile")).tolist() == [1, -1, 0]
  build = find_build("labeled_images", data, {"labels": order} if order else {})
  assert open_build(build).labels == tuple(OLD_LABELS)
  assert len(tfds.builder_from_directory(str(build.folder)).as_data_source("train")) == 3


def test_changed_files_are_not_opened_from_an_older_build(old_folder):
  source, data = old_folder
  cv2.imwrite(str(source / "Sad" / "y.png"), np.zeros((8, 8, 3), np.uint8))
  builder = prepare(
    "labeled_images", data_dir=str(data), manual_dir=str(source), workers=0, align=False
  )
  assert builder.labels == ("half smile", "no expression", "sad") and len(read_index(builder)) == 4
