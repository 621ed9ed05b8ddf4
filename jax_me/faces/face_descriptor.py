"""Face embeddings for identity: dlib's 128-dimensional face descriptor.

The network (dlib_face_recognition_resnet_model_v1.dat, a ResNet of 29 layers by Davis King, in the
public domain) was trained so that images of one person are within a Euclidean distance of 0.6.
It takes about 85 ms per face on one core.
"""

import functools

import dlib
import numpy as np

from jax_me.faces import detector
from jax_me.faces.alignment import FaceChip

DESCRIPTOR_SIZE = 128
# Distance below which two images show the same person (network's author; 99.38% right on LFW).
SAME_PERSON = 0.6
# Side of the face chips that the network takes as input.
_CHIP_SIZE = 150


@functools.cache
def _network() -> dlib.face_recognition_model_v1:
  path = detector.model_path("dlib_face_recognition_resnet_model_v1.dat", "face descriptor model")
  return dlib.face_recognition_model_v1(str(path))


def describe_face(image: np.ndarray, face: detector.Face | None = None) -> np.ndarray | None:
  """Computes the descriptor of a face.

  Aligned faces are also detected and cropped again, so that descriptors of photographs and of
  aligned faces can be compared.

  Args:
    image: uint8 [H, W, 3] RGB.
    face: the face to describe; None takes the largest that `detector.find_faces` finds.

  Returns:
    float32 [128]; None if no face is found.

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
