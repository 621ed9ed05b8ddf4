"""Listing of input files, grouping into clips, output names."""

import os

import pytest

from jax_me.faces import input_files


def names(tmp_path, **options):
  return [
    file.name for file in input_files.list_files(tmp_path, without=tmp_path / "out", **options)
  ]


def test_lists_everything_but_the_output(tmp_path):
  for name in ("b/2.png", "a.jpg", "notes.txt", "out/a.png"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
  files = input_files.list_files(tmp_path, without=tmp_path / "out")
  assert [(f.name, f.is_image, f.bytes) for f in files] == [
    ("a.jpg", True, 1),
    ("b/2.png", True, 1),
    ("notes.txt", False, 1),
  ]


def test_links_loops_and_pipes(tmp_path):
  (tmp_path / "in").mkdir()
  (tmp_path / "elsewhere").mkdir()
  (tmp_path / "elsewhere" / "1.png").write_bytes(b"x")
  os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "linked")
  os.symlink(".", tmp_path / "in" / "loop")
  os.symlink("nowhere", tmp_path / "in" / "broken.jpg")
  os.mkfifo(tmp_path / "in" / "pipe.jpg")
  files = input_files.list_files(tmp_path / "in", without=tmp_path / "out")
  assert [f.name for f in files if f.leaves] == ["linked"]
  files = input_files.list_files(tmp_path / "in", without=tmp_path / "out", follow_links=True)
  assert [(f.name, f.is_image) for f in files] == [
    ("broken.jpg", True),
    ("linked/1.png", True),
    ("pipe.jpg", False),
  ]


@pytest.mark.parametrize(
  ("name", "number"),
  [
    ("img001.jpg", 1),
    ("reg_img46.jpg", 46),
    ("reg_img9.png", 9),
    ("046.png", 46),
    ("frame_0001.png", 1),
    ("EP02_01f-12.jpg", 12),
    ("EP02_01f/img46.jpg", 46),
    ("S1_img0001.jpg", 1),
    ("006_1/006_05562.jpg", 5562),
    ("reg_image559740.bmp", 559740),
    ("s1/1.jpg", 1),
    ("a.mp4.jpg", 4),
    ("clip7/onset.jpg", None),
    # The suffix of a copy is not the number of the frame.
    ("img46 (1).jpg", 46),
    ("img46(2).jpg", 46),
    ("006_05562 (12).jpg", 5562),
    ("img46 - Copy.jpg", 46),
    ("img46 - Copy (2).jpg", 46),
    ("img46 copy 2.jpg", 46),
    # Unless there is no other number.
    ("frame (12).jpg", 12),
    ("(12).jpg", 12),
  ],
)
def test_frame_number_is_the_last_integer_before_a_copy_suffix(name, number):
  assert input_files.frame_number(name) == number


def image(name: str) -> input_files.SourceFile:
  return input_files.SourceFile(name, True, 1, 1)


def test_clips_are_folders_of_numbered_frames_in_numerical_order():
  files = [image(n) for n in ("c/img10.jpg", "c/img9.jpg", "c/cover.jpg", "d/1.jpg", "7.jpg")]
  files.append(input_files.SourceFile("c/notes.txt", False, 1, 1))
  work = input_files.make_tasks(files, clips=True, image_format="png")
  assert [(task.names, task.is_clip) for task in work] == [
    (("c/img9.jpg", "c/img10.jpg"), True),
    (("c/cover.jpg",), False),
    (("d/1.jpg",), True),
    (("7.jpg",), True),
  ]
  assert work[0].outputs == ("c/img9.png", "c/img10.png")
  photographs = input_files.make_tasks(files, clips=False, image_format="jpg")
  assert [len(task.names) for task in photographs] == [1] * 5
  assert not any(task.is_clip for task in photographs)


def test_copies_of_a_frame_follow_it_in_the_order_of_their_numbers():
  names = ["c/img46 (10).jpg", "c/img46 (2).jpg", "c/img46.jpg", "c/img47.jpg", "c/img5.jpg"]
  (clip,) = input_files.make_tasks([image(n) for n in names], clips=True, image_format="png")
  assert clip.names == tuple(
    f"c/{n}.jpg" for n in ("img5", "img46", "img46 (2)", "img46 (10)", "img47")
  )


def test_output_names_never_collide():
  sources = ["x/a.jpg", "x/a.png", "x/b.jpg", "y/a.jpg", "c.d.JPG", "none", "A.jpg", "a.tif"]
  assert input_files.output_names(sources, "png") == {
    "x/a.jpg": "x/a.jpg.png",
    "x/a.png": "x/a.png.png",
    "x/b.jpg": "x/b.png",
    "y/a.jpg": "y/a.png",
    "c.d.JPG": "c.d.png",
    "none": "none.png",
    "A.jpg": "A.jpg.png",
    "a.tif": "a.tif.png",
  }
  awkward = ["a.jpg", "a.png", "a.jpg.bmp", "b.jpg", "b.png/1.jpg"]
  results = input_files.output_names(awkward, "png")
  assert len({*results.values(), "b.png"}) == len(awkward) + 1
  assert input_files.output_names(reversed(awkward), "png") == results
