"""Every kind of input of `Predictor.predict`; the table of docs/predict.md lists the same."""

import functools
import http.server
import pathlib
import threading

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jax_me
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image
from jax_me.inference.image_download import DownloadError, download
from jax_me.inference.results import FaceResult, FrameResult, Results
from jax_me.inference.source_results import VideoResults
from tests.helpers.inference_models import LABELS, save

pytestmark = pytest.mark.usefixtures("quick_compilation")
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
GREY = np.repeat(IMAGE[:, :, :1], 3, axis=2)
FLOATS = IMAGE.astype(np.float32) / 255


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
  """A model of whole images: every readable image gives a result."""
  return jax_me.load(save(tmp_path_factory.mktemp("m") / "model", align=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Photographs, frames, a video and broken files."""
  root = tmp_path_factory.mktemp("inputs")
  (root / "photo.png").write_bytes(encode_image(IMAGE))
  (root / "download").write_bytes(encode_image(IMAGE))
  (root / "broken.png").write_bytes(b"\x89PNG broken")
  Image.fromarray(np.dstack([IMAGE, np.full((40, 48), 255, np.uint8)])).save(root / "rgba.png")
  for name, files, step in (("people", ("anna", "ben", "carl"), 60), ("clip", "123", 1)):
    (root / name).mkdir()
    for number, file in enumerate(files):
      image = np.full((40, 48, 3), 20 + step * number, np.uint8)
      (root / name / f"{file}.png").write_bytes(encode_image(image))
  writer = cv2.VideoWriter(str(root / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (48, 40))
  for _ in range(5):
    writer.write(IMAGE)
  writer.release()
  return root


@pytest.fixture(scope="module")
def address(folder):
  handler = functools.partial(_QuietHandler, directory=folder)
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f"http://127.0.0.1:{server.server_port}"
  server.shutdown()
  server.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
  def do_GET(self):  # noqa: N802
    if self.path == "/to_file":
      self.send_response(302)
      self.send_header("Location", "file:///etc/hostname")
      self.end_headers()
    else:
      super().do_GET()

  def log_message(self, *_):
    pass


class Tensor:
  """As a torch tensor on the CPU."""

  def __array__(self, dtype=None, copy=None):
    return IMAGE


# name in docs/predict.md: (input, keywords, shape of the results). "face": one photograph; a
# number: so many photographs; "N frames": a video.
INPUTS = {
  "path": (lambda f: str(f / "photo.png"), {}, "face"),
  "`pathlib.Path`": (lambda f: f / "photo.png", {}, "face"),
  "image file without a suffix": (lambda f: f / "download", {}, "face"),
  "file with transparency": (lambda f: f / "rgba.png", {}, "face"),
  "`bytes` of an image file": (lambda f: (f / "photo.png").read_bytes(), {}, "face"),
  "`PIL.Image`": (lambda f: Image.fromarray(IMAGE), {}, "face"),
  "uint8 [H, W, 3]": (lambda f: IMAGE, {}, "face"),
  "uint8 [H, W]": (lambda f: GREY[:, :, 0], {}, "face"),
  "uint8 [H, W, 1]": (lambda f: GREY[:, :, :1], {}, "face"),
  "uint8 [H, W, 4]": (lambda f: np.dstack([IMAGE, np.full((40, 48), 255, np.uint8)]), {}, "face"),
  "uint16 [H, W, 3]": (lambda f: IMAGE.astype(np.uint16) * 257, {}, "face"),
  "float [H, W, 3] in [0, 1]": (lambda f: FLOATS, {}, "face"),
  "`jax.Array`": (lambda f: jnp.asarray(FLOATS), {}, "face"),
  "torch tensor [H, W, 3] on the CPU": (lambda f: Tensor(), {}, "face"),
  "list": (lambda f: [f / "photo.png", IMAGE, b"\0"], {}, 3),
  "tuple, generator": (lambda f: (image for image in (IMAGE, GREY)), {}, 2),
  "array of paths": (lambda f: np.array([str(f / "photo.png")] * 2), {}, 2),
  "glob": (lambda f: str(f / "*.png"), {}, 3),
  "folder of photographs": (lambda f: f / "people", {}, 3),
  "folder of numbered frames": (lambda f: f / "clip", {}, "3 frames"),
  'folder, `as_="frames"`': (lambda f: f / "people", {"as_": "frames"}, "3 frames"),
  'folder, `as_="photos"`': (lambda f: f / "clip", {"as_": "photos"}, 3),
  "video file": (lambda f: f / "film.avi", {}, "5 frames"),
  "array [T, H, W, 3]": (lambda f: np.stack([IMAGE] * 4), {}, "4 frames"),
  'array [T, H, W, 3], `as_="photos"`': (lambda f: np.stack([IMAGE] * 4), {"as_": "photos"}, 4),
  'list, `as_="frames"`': (lambda f: [IMAGE] * 3, {"as_": "frames", "fps": 50}, "3 frames"),
}
# name: (input, exception, part of the message)
REFUSED = {
  "path that does not exist": (lambda f: f / "nothing.png", ValueError, "does not exist"),
  "glob without a match": (lambda f: str(f / "*.jpg"), ValueError, "no file matches"),
  "broken image": (lambda f: f / "broken.png", UnreadableImage, "broken.png"),
  "bytes of something else": (lambda f: b"hello", UnreadableImage, "not an image"),
  "float beyond [0, 1]": (lambda f: FLOATS * 255, UnreadableImage, r"must be in \[0, 1\]"),
  "channels first": (lambda f: np.moveaxis(IMAGE, 2, 0), UnreadableImage, "moveaxis"),
  "empty array": (lambda f: np.zeros((0, 3, 3), np.uint8), UnreadableImage, "got uint8"),
  "web address without `allow_urls`": (lambda f: "https://x.org/a.jpg", ValueError, "allow_urls"),
  "camera that is not connected": (lambda f: "camera:99", ValueError, "camera:99"),
  "`None`, `dict`": (lambda f: None, TypeError, "NoneType"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_input(predictor, folder, name):
  make, keywords, shape = INPUTS[name]
  results = predictor.predict(make(folder), **keywords)
  assert isinstance(results, Results) and repr(results)
  if shape == "face":
    (face,) = results
    assert type(face) is FaceResult and face.status == "ok" and face.label in LABELS
    pixels = GREY if "[H, W]" in name or "[H, W, 1]" in name else IMAGE
    (expected,) = predictor.predict(pixels)
    assert face.scores == pytest.approx(expected.scores, abs=1e-6)
  elif isinstance(shape, int):
    assert len(results) == shape and all(isinstance(one, Results) for one in results)
  else:
    assert isinstance(results, VideoResults)
    assert f"{len(results)} frames" == shape and all(type(one) is FrameResult for one in results)
    assert [one.frame for one in results] == list(range(len(results)))


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_input_raises_alone_and_has_a_status_in_a_list(predictor, folder, name):
  make, exception, message = REFUSED[name]
  with pytest.raises(exception, match=message):
    predictor.predict(make(folder))
  good, bad, last = predictor.predict([IMAGE, make(folder), IMAGE])
  assert good[0].status == last[0].status == "ok" and bad[0].status == "unreadable"
  assert bad[0].reason and bad[0].label is None and bad[0].reason in repr(bad)


def test_documentation_lists_these_inputs(repository):
  text = (repository / "docs" / "predict.md").read_text(encoding="utf-8")
  rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines()]
  assert [row for row in rows if row in INPUTS] == list(INPUTS)
  assert [row for row in rows if row in REFUSED] == list(REFUSED)


def test_items_of_a_list_may_be_of_every_kind(predictor, folder):
  results = predictor.predict(
    [folder / "film.avi", folder / "people", IMAGE, folder / "broken.png"]
  )
  film, people, photograph, broken = results
  assert isinstance(film, VideoResults) and len(people) == 3 and photograph[0].status == "ok"
  assert broken.status == "unreadable"
  assert len(results.to_records()) == 5 + 3 + 1 + 1


def test_the_results_say_whether_a_folder_was_read_as_photographs(predictor, folder):
  people, clip = predictor.predict([folder / "people", folder / "clip"])
  assert "photographs" in people.note and people.note in repr(people)
  assert "frames of one clip" in clip.note and clip.note in repr(clip)
  assert pathlib.Path(people[0].name).name == "anna.png"


def test_images_and_videos_from_web_addresses(predictor, folder, address, tmp_path):
  (face,) = predictor.predict(f"{address}/photo.png", allow_urls=True)
  assert face.scores == predictor.predict(IMAGE)[0].scores
  film = predictor.predict(f"{address}/film.avi", allow_urls=True)
  assert len(film) == 5 and film.name.startswith("http")
  missing, good = predictor.predict(
    [f"{address}/nothing.png", f"{address}/photo.png"], allow_urls=True
  )
  assert "404" in missing[0].reason and good[0].status == "ok"
  with pytest.raises(ValueError, match="404"):
    predictor.predict(f"{address}/nothing.avi", allow_urls=True)
  with pytest.raises(DownloadError, match="only http"):
    predictor.predict(f"file://{folder}/photo.png", allow_urls=True)


def test_limits_of_downloads(folder, address):
  assert download(f"{address}/photo.png") == (folder / "photo.png").read_bytes()
  with pytest.raises(DownloadError, match="more than 100 bytes"):
    download(f"{address}/photo.png", max_bytes=100)
  with pytest.raises(DownloadError, match="not complete after"):
    download(f"{address}/photo.png", total_seconds=-1)
  with pytest.raises(DownloadError, match="is not allowed"):
    download(f"{address}/to_file")
  with pytest.raises(DownloadError, match="cannot be downloaded"):
    download("http://127.0.0.1:9/photo.png")


def test_arrays_are_read_as_files_are(predictor, tmp_path):
  half = np.dstack([IMAGE, np.full((40, 48), 100, np.uint8)])
  Image.fromarray(half).save(tmp_path / "half.png")
  from jax_me.inference.image_arrays import array_to_image

  np.testing.assert_array_equal(array_to_image(half, ""), read_image(tmp_path / "half.png"))
  values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
  Image.fromarray(values).save(tmp_path / "grey16.png")
  difference = array_to_image(values, "").astype(int) - read_image(tmp_path / "grey16.png")
  assert np.abs(difference).max() == 0


def test_settings_that_are_out_of_range(predictor, folder):
  for settings in ({"as_": "film"}, {"fps": 0}, {"every": 0}, {"batch": 0}):
    with pytest.raises(ValueError, match="got"):
      predictor.predict(folder / "clip", **settings)


def test_a_pillow_image_of_a_truncated_file_is_unreadable(predictor, folder, tmp_path):
  data = (folder / "photo.png").read_bytes()
  (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
  with Image.open(tmp_path / "half.png") as image:
    with pytest.raises(UnreadableImage, match="truncated"):
      predictor.predict(image)
    assert predictor.predict([image])[0][0].status == "unreadable"
