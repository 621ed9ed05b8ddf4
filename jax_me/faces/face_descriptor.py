"""Who a face belongs to: dlib's face descriptor, 128 numbers that lie close for one person.

The network (dlib_face_recognition_resnet_model_v1.dat, a ResNet of 29 layers by Davis King, in the
public domain) was trained to bring pictures of one person within 0.6 of each other. Distances are
Euclidean. It takes about 85 ms a face on one core.
"""

import functools

import dlib
import numpy as np

from jax_me.faces import detector
from jax_me.faces.alignment import FaceChip

DESCRIPTOR_SIZE = 128
# Pictures closer than this show one person, says the network's author (99.38% right on LFW).
SAME_PERSON = 0.6
# The network takes dlib's face chips of this side.
_CHIP_SIZE = 150


@functools.cache
def _network() -> dlib.face_recognition_model_v1:
  path = detector.model_path("dlib_face_recognition_resnet_model_v1.dat", "face descriptor model")
  return dlib.face_recognition_model_v1(str(path))


def describe_face(image: np.ndarray, face: detector.Face | None = None) -> np.ndarray | None:
  """The descriptor of a face.

  Also for faces that are aligned already: the face is found and cut anew, so that descriptors of
  photographs and of aligned faces can be compared.

  Args:
    image: uint8 [H, W, 3] RGB.
    face: which face; None takes the largest one that `detector.find_faces` finds.

  Returns:
    float32 [128]; None where no face is found.

  Raises:
    ValueError: an image of another shape or dtype.
    FileNotFoundError: the network's file is missing.
  """
  detector.check_image(image)
  if face is None:
    faces = detector.find_faces(image)
    if not faces:
      return None
    face = faces[0]
  chip = FaceChip.of_face(face, _CHIP_SIZE).extract(image)
  return np.array(_network().compute_face_descriptor(chip), np.float32)
