"""Face alignment: dlib's chip, its transform, and clips with a shared transform."""

import dataclasses
import json

import cv2
import dlib
import numpy as np
import pytest

from jax_me.faces import alignment, detector


@pytest.fixture(scope="module")
def portrait_face(portrait) -> detector.Face:
  return detector.find_faces(portrait)[0]


@pytest.mark.parametrize("size", [64, 112, 224, 300])
def test_chip_equals_dlib(portrait, portrait_face, size):
  shape = dlib.full_object_detection(
    dlib.rectangle(*portrait_face.box),
    [dlib.point(round(x), round(y)) for x, y in portrait_face.landmarks.tolist()],
  )
  expected = dlib.get_face_chip(portrait, shape, size=size)
  aligned = alignment.align_image(portrait, size)
  np.testing.assert_array_equal(aligned.image, expected)


@pytest.mark.parametrize(
  ("side", "size", "angle"),
  [(112.6, 224, 0.3), (112.6, 112, -2.0), (150, 74, 3.0), (300, 40, 0.1), (300.5, 17, 1.0)],
)
def test_transform_maps_source_pixels_to_chip_pixels(side, size, angle):
  """Exact, whether dlib enlarges the image or halves it once or four times before extraction."""
  left, top = 500 - side / 2, 520.5 - side / 2
  chip = alignment.FaceChip(left, top, left + side, top + side, angle, size)
  # Each pixel of these images holds its own coordinate, so each chip pixel gives its source.
  y, x = np.mgrid[:1024, :1024].astype(np.float64)
  details = dlib.chip_details(
    dlib.drectangle(chip.left, chip.top, chip.right, chip.bottom),
    dlib.chip_dims(size, size),
    angle,
  )
  source = [dlib.extract_image_chip(plane, details).ravel() for plane in (x, y)]
  mapped = chip.matrix() @ np.stack([*source, np.ones(size**2)])
  chip_y, chip_x = np.mgrid[:size, :size]
  np.testing.assert_allclose(mapped, np.stack([chip_x.ravel(), chip_y.ravel()]), atol=1e-9)


@pytest.mark.parametrize(("size", "tolerance"), [(40, 1e-6), (600, 1e-3)])
def test_transform_of_the_centred_square(size, tolerance):
  chip = alignment.CenterChip.of_image(200, 320, size)
  x = np.broadcast_to(np.arange(320.0), (200, 320))
  source_x = chip.extract(np.stack([x, x, x], axis=-1))[0, :, 0]
  mapped = chip.matrix()[0, :2] @ [source_x, np.zeros(size)] + chip.matrix()[0, 2]
  # OpenCV's weights are float32 when shrinking and coarser when enlarging, where the outermost
  # half source pixel repeats.
  edge = 0 if size < 200 else 2
  np.testing.assert_allclose(
    mapped[edge : size - edge], np.arange(size)[edge : size - edge], atol=tolerance
  )


def test_transform_levels_the_eyes(portrait):
  record = alignment.align_image(portrait, 224).record
  points = np.column_stack([record["landmarks"], np.ones(68)]) @ np.array(record["transform"]).T
  left, right = points[36:42].mean(0), points[42:48].mean(0)
  assert abs(left[1] - right[1]) < 4
  assert abs((left[0] + right[0]) / 2 - 112) < 6
  assert 60 < left[1] < 110 < points[48:].mean(0)[1] < 190  # eyes above, mouth below


def test_a_rotated_face_becomes_upright(portrait):
  rotation = cv2.getRotationMatrix2D((220, 130), 18, 1)
  rotated = alignment.align_image(cv2.warpAffine(portrait, rotation, (512, 512)), 128).image
  upright = alignment.align_image(portrait, 128).image
  difference = rotated.astype(float) - upright
  assert np.abs(difference[24:104, 24:104]).mean() < 20
  mirrored = upright.astype(float)[:, ::-1] - upright
  assert np.abs(difference).mean() < np.abs(mirrored).mean() / 1.5


def test_record(portrait, scenery):
  ok = alignment.align_image(portrait, 64).record
  assert (ok["status"], ok["faces"]) == ("ok", 1)
  assert len(ok["box"]) == 4 and np.shape(ok["landmarks"]) == (68, 2)
  assert json.loads(json.dumps(ok)) == ok
  two = alignment.align_image(np.hstack([portrait, portrait]), 64)
  assert (two.record["status"], two.record["faces"]) == ("several_faces", 2)
  assert two.image.shape == (64, 64, 3)


def test_no_face_policies(scenery):
  skipped = alignment.align_image(scenery, 64)
  assert skipped.image is None
  assert skipped.record == {
    "status": "no_face",
    "faces": 0,
    "box": None,
    "landmarks": None,
    "transform": None,
  }
  centered = alignment.align_image(scenery, 64, "center")
  assert centered.record["status"] == "centered"
  expected = cv2.resize(scenery[:, 50:250], (64, 64), interpolation=cv2.INTER_AREA)
  assert np.abs(centered.image.astype(int) - expected).mean() < 3
  corners = np.array(centered.record["transform"]) @ [[49.5, 249.5], [-0.5, 199.5], [1, 1]]
  np.testing.assert_allclose(corners, [[-0.5, 63.5], [-0.5, 63.5]], atol=1e-9)
  with pytest.raises(alignment.NoFaceError, match="300 x 200"):
    alignment.align_image(scenery, 64, "error")


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1)])
def test_centre_of_images_one_pixel_wide(shape):
  assert alignment.align_image(np.ones((*shape, 3), np.uint8), 32, "center").image.shape == (
    32,
    32,
    3,
  )


def test_bad_settings(portrait):
  with pytest.raises(ValueError, match=r"\[16, 4096\] pixels, got 0"):
    alignment.align_image(portrait, 0)
  with pytest.raises(ValueError, match="one of skip, center, error, got 'crop'"):
    alignment.align_clip([portrait], 64, "crop")


def test_clip_shares_the_transform_of_its_first_face(face, variants):
  blank = np.full_like(variants(0), 200)
  frames = [blank, variants(1), variants(2), blank]
  results = alignment.align_clip(iter(frames), 96)
  reference = alignment.align_image(frames[1], 96)
  assert len(results) == 4
  for result in results:
    assert result.record == {**reference.record, "reference": 1}
    assert result.image.shape == (96, 96, 3)
  np.testing.assert_array_equal(results[1].image, reference.image)
  alone = alignment.align_image(frames[2], 96)
  assert alone.record["transform"] != results[2].record["transform"]
  assert not np.array_equal(alone.image, results[2].image)


def test_clip_alignment_keeps_motion(variants):
  """Motion by two pixels remains in the aligned frames."""
  frame = variants(3)
  moved = np.roll(frame, 2, axis=1)
  _, result = alignment.align_clip([frame, moved], 96)
  chip = alignment.FaceChip.of_face(detector.find_faces(frame)[0], 96)
  shifted_back = dataclasses.replace(chip, left=chip.left - 2, right=chip.right - 2)
  np.testing.assert_array_equal(result.image[:, 8:-8], shifted_back.extract(frame)[:, 8:-8])


def test_clip_without_a_face(scenery):
  skipped = alignment.align_clip([scenery, scenery], 64)
  assert [(r.image, r.record["status"]) for r in skipped] == [(None, "no_face")] * 2
  centered = alignment.align_clip([scenery, scenery], 64, "center")
  assert [r.record["status"] for r in centered] == ["centered"] * 2
  with pytest.raises(alignment.NoFaceError):
    alignment.align_clip([scenery], 64, "error")
  assert alignment.align_clip([], 64) == []


def test_clip_frame_of_another_size_has_its_own_status(variants):
  frame = variants(1)
  first, other_size, last = alignment.align_clip([frame, frame[:-10], frame], 64)
  assert other_size.image is None
  assert other_size.record["status"] == "size_mismatch"
  assert other_size.record["transform"] is None
  np.testing.assert_array_equal(first.image, last.image)
