"""Head pose of projected model points."""

import cv2
import numpy as np
import pytest

from jax_me.faces import head_pose
from jax_me.faces.head_pose import HeadPose


def projected(yaw, pitch, roll, size=300.0):
  """68 landmarks of the model's face, turned and seen from 0.6 m; only its points are right."""
  y, p, r = np.radians([yaw, pitch, roll])
  rotation = (
    cv2.Rodrigues(np.array([0, -y, 0]))[0]
    @ cv2.Rodrigues(np.array([-p, 0, 0]))[0]
    @ cv2.Rodrigues(np.array([0, 0, r]))[0]
  )
  points = head_pose._POINTS @ rotation.T + [0, 0, 600]
  landmarks = np.full((68, 2), 200.0)
  landmarks[head_pose._ROWS] = size * 10 * points[:, :2] / points[:, 2:] + 400
  return landmarks


@pytest.mark.parametrize("pose", [(0, 0, 0), (25, 0, 0), (-30, 5, 0), (0, 15, 0), (0, -15, 20)])
def test_the_pose_of_a_turned_face(pose):
  found = HeadPose.of_landmarks(projected(*pose))
  # Angles are relative to the line of sight through the middle of the face.
  assert (found.yaw, found.pitch, found.roll) == pytest.approx(pose, abs=5)


def test_the_pose_does_not_depend_on_place_and_size():
  small, large = projected(20, -10, 5, size=30), projected(20, -10, 5)
  one, other = HeadPose.of_landmarks(small), HeadPose.of_landmarks(large + [500, -300])
  assert (one.yaw, one.pitch, one.roll) == pytest.approx(
    (other.yaw, other.pitch, other.roll), abs=0.1
  )


def test_no_face_has_no_pose():
  assert HeadPose.of_landmarks(np.zeros((68, 2))) is None
  assert HeadPose.of_landmarks(np.full((68, 2), np.nan)) is None
