"""Optical flow between two aligned frames, and its image (u, v, strain).

Micro-expression models take the motion from onset to apex as a 3-channel image: horizontal flow u,
vertical flow v and the magnitude of optical strain (Shreve et al., "Macro- and micro-expression
spotting in long videos using spatio-temporal strain", FG 2011; used as network input by Liong et
al., "Shallow Triple Stream Three-dimensional CNN (STSTNet)", FG 2019).
"""

import logging

import cv2
import numpy as np

METHODS = ("dis", "farneback", "auto")

logger = logging.getLogger(__name__)


def optical_flow(
  onset: np.ndarray, apex: np.ndarray, method: str = "dis", *, patch_stride: int = 3
) -> np.ndarray:
  """Computes the dense motion from one frame to another.

  Args:
    onset, apex: uint8 [H, W, 3] RGB or [H, W] grey, of one size, at least 16 pixels a side.
    method: "dis" (Kroeger et al. 2016, arXiv:1603.03590, with its variational refinement at full
      resolution), "farneback" (Farneback 2003; smoother, works without texture), or "auto":
      "dis", or "farneback" with a warning if DIS is missing or fails in this OpenCV build.
    patch_stride: distance in pixels, 1 to 8, of the patches of DIS. Larger ones are faster (6 takes
      half the time of 3) and less exact in the single pixel; no matter to "farneback".

  Returns:
    float32 [H, W, 2], pixels: the point (x, y) of the onset is at (x + u, y + v) in the apex.

  Raises:
    ValueError: frames differ in size, are too small or are not uint8, unknown method, or
      patch_stride outside its range.
  """
  if not 1 <= patch_stride <= 8:
    raise ValueError(f"patch_stride must be from 1 to 8 pixels, got {patch_stride}")
  if method not in METHODS:
    raise ValueError(f"the optical flow method must be one of {', '.join(METHODS)}, got {method!r}")
  frames = []
  for name, frame in (("onset", onset), ("apex", apex)):
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
      raise ValueError(
        f"optical_flow needs uint8 frames [H, W, 3] or [H, W]; {name} is "
        f"{frame.dtype} {list(frame.shape)}"
      )
    frames.append(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if frame.ndim == 3 else frame)
  before, after = frames
  if before.shape != after.shape or min(before.shape) < 16:
    raise ValueError(
      "optical_flow needs two frames of one size, at least 16x16; got "
      f"{list(before.shape)} and {list(after.shape)}"
    )
  if method != "farneback":
    try:
      return _dis_flow(before, after, patch_stride)
    except (AttributeError, cv2.error) as error:
      if method == "dis":
        raise
      logger.warning("using Farneback optical flow because OpenCV's DIS failed: %s", error)
  flow = cv2.calcOpticalFlowFarneback(before, after, _zero_flow(before), 0.5, 4, 15, 5, 5, 1.1, 0)
  return np.asarray(flow, np.float32)


def _zero_flow(frame: np.ndarray) -> np.ndarray:
  return np.zeros((*frame.shape, 2), np.float32)


def _dis_flow(before: np.ndarray, after: np.ndarray, patch_stride: int) -> np.ndarray:
  engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
  # The preset stops at half resolution, which is too coarse for motion of one pixel.
  engine.setFinestScale(0)
  engine.setPatchStride(patch_stride)
  return np.asarray(engine.calc(before, after, _zero_flow(before)), np.float32)


def optical_strain(flow: np.ndarray) -> np.ndarray:
  """Computes the magnitude of the optical strain of a flow.

  With e = (grad f + grad f^T) / 2 it is sqrt(e_xx^2 + e_yy^2 + e_xy^2 + e_yx^2) (Shreve et al.
  2011, eq. 3-5): 0 for translation and (to first order) rotation of the face as a whole.

  Args:
    flow: float [H, W, 2], pixels.

  Returns:
    float32 [H, W], pixels per pixel, >= 0.
  """
  flow = np.asarray(flow, np.float32)
  u_y, u_x = np.gradient(flow[..., 0])
  v_y, v_x = np.gradient(flow[..., 1])
  shear = 0.5 * (u_y + v_x)
  return np.sqrt(u_x**2 + v_y**2 + 2 * shear**2)


def flow_image(flow: np.ndarray, scale: float) -> np.ndarray:
  """Encodes a flow as an image: channels u, v, optical strain.

  Args:
    flow: float [H, W, 2], pixels.
    scale: motion in pixels that saturates, > 0. u and v map [-scale, scale] to [0, 255] with no
      motion at 127.5, so that a flipped u is 255 - u; strain maps [0, scale / 8] to [0, 255], a
      displacement that changes by `scale` within 8 pixels. Larger values are clipped. One fixed
      scale for a dataset preserves the strength of an expression; a scale per clip would not.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: a flow of another shape, or scale <= 0.
  """
  if flow.ndim != 3 or flow.shape[-1] != 2:
    raise ValueError(f"flow_image needs a flow [H, W, 2], got {list(flow.shape)}")
  if not scale > 0:
    raise ValueError(f"flow_image needs a scale above 0 pixels, got {scale}")
  motion = 127.5 + flow * (127.5 / scale)
  strain = optical_strain(flow) * (8 * 255 / scale)
  channels = np.concatenate([motion, strain[..., None]], -1)
  return np.clip(np.rint(channels), 0, 255).astype(np.uint8)
