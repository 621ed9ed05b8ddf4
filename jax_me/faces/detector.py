"""Face detection, by YuNet and dlib's HOG detector, and dlib's 68-point landmark predictor.

The 68-point model was trained on the iBUG 300-W photographs, which are licensed for research use:
see LICENSE_NOTICE, which every command that uses the model prints.
"""

import dataclasses
import functools
import importlib.util
import math
import pathlib
import threading

import cv2
import dlib
import numpy as np

from jax_me.faces import yunet

# Values of the setting `detector`. "yunet+hog": HOG searches where YuNet finds no face. "hog": the
# way of version 0.1, whose datasets and models store no such setting.
DETECTORS = ("yunet+hog", "hog", "yunet")
DEFAULT_DETECTOR = "yunet+hog"
EARLIER_DETECTOR = "hog"

LICENSE_NOTICE = (
  "The 68-point landmark model (face_recognition_models) was trained on the iBUG 300-W data, which "
  "is licensed for research use only; for commercial use ask Imperial College London."
)

# Longest side of the image in the first pass of the HOG detector: 9 ms instead of 23 at 640. The
# detector's window is 80 pixels, so this finds faces of at least a quarter of the image side.
SMALL_SIDE = 320
# Frontal faces score about 2. The first pass is final when its best face reaches this score: weaker
# faces are often at the limit of its resolution, with a box too coarse for good landmarks.
CLEAR_SCORE = 1.0
# When there is a clear face, detections below this score are dropped: in scikit-image's portrait
# the emblem on the suit scores 0.06 to 0.21 depending on scale, and its box may be the larger one.
WEAK_SCORE = 0.25
# Most pixels of a pass of the HOG detector (2.5 s): limits upsampling and shrinks huge images.
MAX_DETECTION_PIXELS = 40_000_000
# The same where HOG is the second detector (80 ms). A face must then be clear: the weak detections
# in images in which YuNet finds no face are mostly false.
MAX_SECOND_DETECTOR_PIXELS = 1_200_000

# The square that the landmark predictor takes for a face of YuNet, whose box has the side s (square
# root of its area): its side and the offset of its centre, as fractions of s. Fitted so that the
# landmarks agree with those in the boxes of the HOG detector, for which the predictor was trained.
LANDMARK_SQUARE = 0.90
LANDMARK_OFFSET = (0.020, 0.056)
# Landmarks are means over this square and two that are moved along the diagonal and scaled by these
# fractions of its side. What a JPEG compression changes falls from 0.9 to 0.6% of the eye distance.
LANDMARK_SHIFTS = (0.03, -0.03)
# Pixels per side of a YuNet face in the copy in which its landmarks are predicted, at most.
LANDMARK_FACE_SIDE = 256
# A face that is turned by more than this in the crop is cut out again.
MAX_ROLL_IN_CROP = math.radians(10)


Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Face:
  """One face.

  Attributes:
    box: (left, top, right, bottom) in pixels of the full image, inclusive; may extend beyond it.
      It is the square that the HOG detector would give, also for a face that YuNet found.
    score: the detector's confidence. HOG: normally above 0, about 2 for a clear frontal face;
      YuNet: in [0.6, 1].
    landmarks: float32 [68, 2], (x, y) in pixels of the full image, in the iBUG 300-W order
      (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth).
  """

  box: Box
  score: float
  landmarks: np.ndarray

  @property
  def area(self) -> int:
    left, top, right, bottom = self.box
    return (right - left + 1) * (bottom - top + 1)


def landmark_model_path() -> pathlib.Path:
  """Path of the 68-point model in the `face_recognition_models` package.

  Raises:
    FileNotFoundError: the package or its file is missing.
  """
  return model_path("shape_predictor_68_face_landmarks.dat", "68-point landmark model")


def model_path(file: str, description: str) -> pathlib.Path:
  """Path of a model file in the `face_recognition_models` package.

  The package is located without importing it: its import needs pkg_resources, which current
  setuptools no longer includes.

  Args:
    file: name of the file.
    description: its content, for the error message.

  Raises:
    FileNotFoundError: the package or its file is missing.
  """
  spec = importlib.util.find_spec("face_recognition_models")
  for folder in (spec and spec.submodule_search_locations) or []:
    path = pathlib.Path(folder) / "models" / file
    if path.is_file():
      return path
  raise FileNotFoundError(
    f"the {description} is missing; install it with: pip install face_recognition_models"
  )


_per_thread = threading.local()


def _detector() -> dlib.fhog_object_detector:
  """The detector of this thread: it keeps the image pyramid between calls."""
  if not hasattr(_per_thread, "detector"):
    _per_thread.detector = dlib.get_frontal_face_detector()
  return _per_thread.detector


# Loaded once per process: 0.9 s, 75 MB.
@functools.cache
def _predictor() -> dlib.shape_predictor:
  return dlib.shape_predictor(str(landmark_model_path()))


def check_detector(name: str) -> None:
  """Raises ValueError unless this is one of DETECTORS."""
  if name not in DETECTORS:
    raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {name!r}")


def find_faces(image: np.ndarray, detector: str = DEFAULT_DETECTOR) -> list[Face]:
  """Finds the faces of an image, largest first.

  Large images are searched in scaled copies.

  Args:
    image: uint8 [H, W, 3] RGB.
    detector: one of DETECTORS.

  Returns:
    list of Face, empty when there is none.

  Raises:
    ValueError: another shape or dtype, or an unknown detector.
  """
  check_image(image)
  check_detector(detector)
  image = np.ascontiguousarray(image)
  if detector == "hog":
    faces = _find_hog_faces(image, MAX_DETECTION_PIXELS)
  else:
    faces = [fit_upright_landmarks(image, face) for face in yunet.find_faces(image)]
    if not faces and detector == "yunet+hog":
      faces = _find_hog_faces(image, MAX_SECOND_DETECTOR_PIXELS)
      faces = [face for face in faces if face.score >= CLEAR_SCORE]
  return sorted(faces, key=lambda face: (face.area, face.score), reverse=True)


def _find_hog_faces(image: np.ndarray, max_pixels: int) -> list[Face]:
  """Finds faces with the HOG detector.

  The first pass is on a copy of SMALL_SIDE; the second, at full size, if the first finds no clear
  face; the third, at twice the size, if neither finds any. If a large face is found, a second one
  smaller than a quarter of the image may therefore be missed. Landmarks are always predicted on
  the full-size image; they differ by 1% of the eye distance between passes.
  """
  best_score: float = 0.0
  best_boxes: list[tuple[Box, float]] = []
  height, width = image.shape[:2]
  for scale in _detection_scales(height, width, max_pixels):
    boxes = find_boxes(image, scale)
    if boxes and max(score for _, score in boxes) > best_score:
      best_score, best_boxes = max(score for _, score in boxes), boxes
    if best_score >= CLEAR_SCORE or (best_boxes and scale * max(height, width) > SMALL_SIDE):
      break
  if best_score >= CLEAR_SCORE:
    best_boxes = [(box, score) for box, score in best_boxes if score >= WEAK_SCORE]
  return [fit_landmarks(image, box, score) for box, score in best_boxes]


def find_boxes(image: np.ndarray, scale: float, threshold: float = 0.0) -> list[tuple[Box, float]]:
  """Runs one pass of the HOG detector.

  Args:
    image: uint8 [H, W, 3] RGB.
    scale: factor of the copy that is searched; the smallest face has 80 pixels in the copy.
    threshold: lowest score of a detection; values below 0 admit weaker ones.

  Returns:
    (box in pixels of the full image, score) of each face, in no particular order.
  """
  boxes, scores, _ = _detector().run(yunet.rescale(image, scale), 0, threshold)
  # Pixel i of the copy covers [i, i + 1) / scale of the image.
  return [
    (
      (
        round(box.left() / scale),
        round(box.top() / scale),
        round((box.right() + 1) / scale) - 1,
        round((box.bottom() + 1) / scale) - 1,
      ),
      float(score),
    )
    for box, score in zip(boxes, scores, strict=True)
  ]


def fit_landmarks(image: np.ndarray, box: Box, score: float) -> Face:
  """Predicts the landmarks of the face in a box (1 ms), whether or not there is a face.

  Args:
    image: uint8 [H, W, 3] RGB, contiguous.
    box: box of the face as the HOG detector would give it.
    score: its detection score.

  Returns:
    the face with its landmarks.
  """
  shape = _predictor()(image, dlib.rectangle(*box))
  landmarks = np.array([(point.x, point.y) for point in shape.parts()], np.float32)
  return Face(box, score, landmarks)


def fit_upright_landmarks(image: np.ndarray, found: yunet.YuNetFace) -> Face:
  """Predicts the landmarks of a face of YuNet in a crop that is turned upright (3 ms)."""
  for _ in range(2):
    side = min(found.side, LANDMARK_FACE_SIDE)
    crop, to_crop = yunet.upright_crop(image, found, side, math.ceil(2 * side))
    center = crop.shape[0] / 2 + side * np.array(LANDMARK_OFFSET)
    upright = fit_landmarks(crop, _square(center, LANDMARK_SQUARE * side), found.score)
    # YuNet underestimates the roll; the landmarks show the rest.
    right = upright.landmarks[42:48].mean(0) - upright.landmarks[36:42].mean(0)
    rest = math.atan2(right[1], right[0])
    if abs(rest) < MAX_ROLL_IN_CROP:
      break
    found = dataclasses.replace(found, roll=found.roll + rest)
  square = LANDMARK_SQUARE * side
  squares = [_square(center + d * square, (1 + d) * square) for d in LANDMARK_SHIFTS]
  shifted = [fit_landmarks(crop, box, found.score).landmarks for box in squares]
  mean = np.mean([upright.landmarks, *shifted], axis=0)
  to_image = cv2.invertAffineTransform(to_crop)
  landmarks = (mean @ to_image[:, :2].T + to_image[:, 2]).astype(np.float32)
  return Face(box_of(found), found.score, landmarks)


def place_of_box(box: Box, roll: float) -> yunet.YuNetFace:
  """Place, size and roll of the YuNet face that has this box; its score is 0."""
  left, top, right, bottom = box
  side = (right - left + 1) / LANDMARK_SQUARE
  cos, sin = math.cos(roll), math.sin(roll)
  offset = np.array([[cos, -sin], [sin, cos]]) @ LANDMARK_OFFSET
  center = np.array([left + right + 1, top + bottom + 1]) / 2 - side * offset
  return yunet.YuNetFace(center, side, roll, 0.0)


def box_of(face: yunet.YuNetFace) -> Box:
  """The box that the HOG detector would give for a face of YuNet."""
  cos, sin = math.cos(face.roll), math.sin(face.roll)
  offset = np.array([[cos, -sin], [sin, cos]]) @ LANDMARK_OFFSET
  return _square(face.center + face.side * offset, LANDMARK_SQUARE * face.side)


def _square(center: np.ndarray, side: float) -> Box:
  """The box of a square."""
  left, top = (round(float(x)) for x in center - side / 2)
  return left, top, left + round(side) - 1, top + round(side) - 1


def check_image(image: np.ndarray) -> None:
  """Raises ValueError unless the array is a non-empty uint8 [H, W, 3] image."""
  if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
    raise ValueError(f"expected a uint8 [H, W, 3] image, got {image.dtype} {list(image.shape)}")


def _detection_scales(height: int, width: int, max_pixels: int) -> list[float]:
  """Ascending scales of the passes: small copy, full size, twice the size, within the limit."""
  cap = math.sqrt(max_pixels / (height * width))
  small = min(1.0, SMALL_SIDE / max(height, width))
  return sorted({min(scale, cap) for scale in (small, 1.0, 2.0)})
