"""What lies in a folder, which frames are a clip, what the results are called."""

import os

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
  assert [(f.name, f.is_image) for f in files] == [
    ("broken.jpg", True),
    ("linked/1.png", True),
    ("pipe.jpg", False),
  ]


def test_frame_number_is_the_last_integer():
  cases = {
    "006_1/006_05562.jpg": 5562,
    "EP02_01f/img46.jpg": 46,
    "reg_img9.png": 9,
    "s1/1.jpg": 1,
    "clip7/onset.jpg": None,
    "a.mp4.jpg": 4,
  }
  assert {name: input_files.frame_number(name) for name in cases} == cases


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
