"""Portrait from which the demo faces are rendered: pixels, control points and region masks.

The image is the NASA portrait of Eileen Collins (public domain) that the scikit-image wheel
carries as `data/astronaut.png`; it is read from the installed package, without network access.
All coordinates here are (x, y) in *canvas* pixels unless a table says *portrait* pixels: the canvas
is the enlarged head region of the portrait, with a margin so that head motion never shows an edge.
"""

import dataclasses
import functools
import importlib.util
import pathlib

import cv2
import numpy as np

# Side of a rendered frame, pixels; the face is about 140 wide. Slightly more than the size at which
# the detector first searches: its second search is then at the size of the frame and not at twice
# that size, which takes four times as long.
FRAME = 336
MARGIN = 33  # Canvas pixels around the frame.
CANVAS = FRAME + 2 * MARGIN

_ORIGIN = np.array([114.0, 4.0])  # Portrait pixel at the frame's upper left corner.
_SCALE = FRAME / 220.0  # Canvas pixels per portrait pixel.

GAMMA = 2.2  # Close to sRGB, and a factor of linear light remains a factor of the encoded value.

# The 68 points of the iBUG scheme in portrait pixels: dlib's predictor on a magnified copy, with
# brows, eyelids and lips corrected by hand, because the warps follow these edges.
_LANDMARKS = """
  179.8 103.8  180.0 115.5  181.0 126.8  182.2 138.2  185.0 149.8  191.2 160.0  200.0 168.5
  209.2 176.0  220.8 178.8  232.2 177.2  243.5 171.2  253.5 163.5  261.0 154.0  265.5 143.0
  268.5 131.2  270.8 119.8  272.0 108.0
  189.5 90.5  194.0 88.8  199.0 88.2  206.0 89.8  213.0 92.5
  238.0 93.2  244.0 92.6  251.0 92.2  257.0 93.0  263.0 96.0
  226.2 102.5  226.0 110.8  225.8 119.0  225.5 127.5
  214.5 131.2  219.5 132.8  224.5 134.5  230.0 133.2  234.8 132.0
  192.0 101.0  198.0 97.5  207.0 98.5  214.0 103.0  207.5 104.3  198.0 104.0
  236.0 105.5  242.5 100.5  250.5 100.5  258.0 104.0  250.5 106.5  243.0 106.8
  202.5 139.5  209.0 140.0  217.0 140.3  223.0 141.0  229.0 140.5  237.0 140.5  245.0 141.0
  237.0 150.5  229.0 154.5  222.5 155.0  215.5 154.0  208.0 149.5
  205.0 141.0  215.0 142.8  222.5 143.8  231.0 143.8  242.5 142.0  232.0 148.8  222.5 149.8
  213.5 148.7
"""

# Additional points, in pairs (image left, image right); a pair with equal names is midline.
_EXTRA = {
  "forehead_inner": ((212, 82), (239, 83)),
  "forehead_outer": ((195, 80), (256, 86)),
  "glabella": ((225.5, 93), None),
  "under_eye": ((203, 111), (248, 113)),
  "cheek": ((197, 122), (257, 124)),
  "nose_side": ((216, 114), (236, 115)),
  "nose_wing": ((212, 126), (239, 127)),
  "fold": ((203, 131), (246, 132)),
  "mouth_side": ((196, 144), (252, 145)),
  "jowl": ((201, 157), (247, 158)),
  "chin_crease": ((222.5, 160), None),
  "chin": ((221.5, 169), None),
  "ear": ((172, 124), (278, 128)),
  "hairline": ((187, 72), (265, 80)),
  "fringe": ((226, 72), None),
  "hair_top": ((200, 26), (258, 26)),
  "crown": ((229, 16), None),
  "hair_upper": ((163, 54), (290, 52)),
  "hair_side": ((153, 82), (300, 86)),
  "hair_low": ((164, 112), (288, 116)),
  "neck": ((187, 178), (254, 178)),
  "collar": ((190, 196), (252, 196)),
}

_HAIR = [
  (186, 70), (192, 33), (205, 20), (230, 15), (245, 17), (262, 25), (280, 38), (292, 52),
  (298, 70), (301, 88), (297, 104), (288, 116), (276, 127), (270, 130), (271, 115), (269, 90),
  (266, 89), (258, 88), (250, 85), (240, 82), (225, 80), (210, 80), (200, 79), (190, 74),
  (183, 82), (181, 95), (179, 110), (178, 121), (170, 117), (160, 108), (155, 98), (153, 82),
  (154, 66), (160, 56), (172, 46), (186, 40), (192, 33), (186, 70),
]  # fmt: skip
_SKIN = [
  (188, 72), (200, 78), (225, 79), (250, 84), (267, 88), (270, 110), (270, 128), (279, 126),
  (276, 134), (269, 137), (266, 145), (262, 155), (256, 163), (254, 179), (247, 187), (235, 190),
  (215, 188), (196, 184), (187, 177), (185, 155), (182, 140), (180, 133), (172, 126), (170, 117),
  (179, 121), (181, 95), (184, 80),
]  # fmt: skip
_CLOTHES = [
  (60, 230), (121, 188), (126, 170), (140, 156), (160, 149), (185, 149), (187, 177), (196, 184),
  (215, 188), (235, 190), (247, 187), (254, 175), (270, 184), (285, 196), (296, 212), (305, 224),
  (345, 250), (345, 300), (60, 300),
]  # fmt: skip


def _mirror_68() -> list[int]:
  order = [16 - i for i in range(17)] + [26 - i for i in range(10)] + [27, 28, 29, 30]
  order += [35, 34, 33, 32, 31]
  order += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
  order += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55]
  return order + [64, 63, 62, 61, 60, 67, 66, 65]


def _control_points() -> tuple[np.ndarray, dict[str, int], np.ndarray]:
  points = [tuple(p) for p in np.array(_LANDMARKS.split(), float).reshape(68, 2)]
  mirror = _mirror_68()
  names = {str(i): i for i in range(68)}
  for name, (left, right) in _EXTRA.items():
    index = len(points)
    names[name] = index
    points.append(left)
    mirror.append(index if right is None else index + 1)
    if right is not None:
      points.append(right)
      mirror.append(index)
  return (np.array(points) - _ORIGIN) * _SCALE + MARGIN, names, np.array(mirror)


# POINTS [P, 2]: control points of the portrait. NAMES: "0".."67" and the extra names (which give
# the image-left one of a pair) -> row. MIRROR [P]: the row of the same point on the other side.
POINTS, NAMES, MIRROR = _control_points()
IOD = float(np.linalg.norm(POINTS[36:42].mean(0) - POINTS[42:48].mean(0)))  # Between eye centres.


@dataclasses.dataclass(frozen=True)
class Portrait:
  """The portrait on the canvas.

  image: float32 [CANVAS, CANVAS, 3], linear light in [0, 1].
  skin, hair, clothes, backdrop: float32 [CANVAS, CANVAS], soft masks in [0, 1].
  """

  image: np.ndarray
  skin: np.ndarray
  hair: np.ndarray
  clothes: np.ndarray
  backdrop: np.ndarray


def portrait_file() -> pathlib.Path:
  """The portrait's path in the installed scikit-image.

  Raises:
    FileNotFoundError: scikit-image is not installed, or its wheel lacks the image.
  """
  spec = importlib.util.find_spec("skimage")
  if spec is None or spec.origin is None:
    raise FileNotFoundError(
      "the demo faces need the portrait in scikit-image: pip install scikit-image"
    )
  path = pathlib.Path(spec.origin).parent / "data" / "astronaut.png"
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is missing: reinstall scikit-image from its wheel (pip install --force-reinstall "
      "scikit-image); the demo faces are rendered from this image"
    )
  return path


def to_linear(image: np.ndarray) -> np.ndarray:
  """sRGB uint8 -> linear light float32 in [0, 1], with a plain power law."""
  return (np.float32(1 / 255) * image) ** np.float32(GAMMA)


def to_srgb(image: np.ndarray) -> np.ndarray:
  """Linear light float >= 0, 1 being white -> sRGB float32, 255 being white; not clipped."""
  return np.float32(255) * image.astype(np.float32) ** np.float32(1 / GAMMA)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
  """Gaussian blur with a standard deviation in canvas pixels."""
  return cv2.GaussianBlur(image, (0, 0), sigma)


def pixel_centres(side: int) -> np.ndarray:
  """(x, y) of every pixel of a square image: float32 [side, side, 2]."""
  return np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2), -1)


def _mask(polygon: list[tuple[int, int]], feather: float) -> np.ndarray:
  corners = (np.array(polygon, float) - _ORIGIN) * _SCALE + MARGIN
  mask = np.zeros((CANVAS, CANVAS), np.float32)
  cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
  return blurred(mask, feather)


@functools.cache
def load_portrait() -> Portrait:
  """Reads the portrait and returns the canvas with its masks; cached per process."""
  whole = cv2.imread(str(portrait_file()), cv2.IMREAD_COLOR_RGB)
  if whole is None or whole.shape[:2] != (512, 512):
    raise ValueError(f"{portrait_file()} is not the 512x512 portrait: reinstall scikit-image")
  # Canvas pixel centre c maps to portrait point (c - MARGIN) / scale + origin.
  zoom = np.array([[1, 0, 0], [0, 1, 0]], np.float64) / _SCALE
  zoom[:, 2] = _ORIGIN - MARGIN / _SCALE
  image = cv2.warpAffine(
    whole, zoom, (CANVAS, CANVAS), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REFLECT_101,
  )  # fmt: skip
  skin, hair, clothes = _mask(_SKIN, 1.2), _mask(_HAIR, 1.2), _mask(_CLOTHES, 1.2)
  # The polygons meet along the hairline: the backdrop must not show through the seam.
  head = _mask(_HAIR + _SKIN[:1], 1.2) + skin
  head = cv2.morphologyEx(np.clip(head, 0, 1), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
  clothes = clothes * (1 - head)
  backdrop = np.clip(1 - head - clothes, 0, 1)
  hair = np.clip(1 - skin - clothes - backdrop, 0, 1)
  return Portrait(to_linear(image), skin, hair, clothes, backdrop)
