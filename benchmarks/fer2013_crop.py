"""How FER2013 crops faces, in units of the face chip: the crop of the packaged expression model.

  python -m benchmarks.fer2013_crop --folder FER2013 --images 500 --output FILE.json

FER2013 is the folder of class folders. Every image is enlarged and its border repeated, so that the
face detector finds a face in it; the 68 landmarks give the face chip (`FaceChip.of_face`). Prints
the median over the images of

  scale  side of the image over the side of the chip
  down   distance of the image's centre below the chip's, in sides of the chip
  right  likewise to the right
  angle  rotation of the chip in degrees (median of the absolute value): images are not rotated

with quartiles. `FaceChip.adjusted` with these values gives the crop of a photograph.
"""

import argparse
import json
import pathlib

import cv2
import numpy as np

from jax_me.datasets.fer2013.class_folders import list_images
from jax_me.faces.alignment import FaceChip
from jax_me.faces.detector import find_faces

ENLARGE = 5
BORDER = 0.3  # Of the enlarged image's side, on each side.


def crop_of(pixels: np.ndarray) -> dict[str, float] | None:
  """The crop of a grey image uint8 [S, S] in units of its face chip; None without one face."""
  side = len(pixels) * ENLARGE
  margin = round(side * BORDER)
  large = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC)
  large = cv2.copyMakeBorder(large, *[margin] * 4, cv2.BORDER_REPLICATE)
  faces = find_faces(np.repeat(large[..., None], 3, axis=2))
  if len(faces) != 1:
    return None
  chip = FaceChip.of_face(faces[0], 100)
  width = chip.right - chip.left
  centre = margin + (side - 1) / 2
  return {
    "scale": side / width,
    "down": (centre - (chip.top + chip.bottom) / 2) / width,
    "right": (centre - (chip.left + chip.right) / 2) / width,
    "angle": abs(float(np.degrees(chip.angle))),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--folder", type=pathlib.Path, required=True)
  parser.add_argument("--images", type=int, default=500, help="training images, evenly spaced")
  parser.add_argument("--output", type=pathlib.Path)
  args = parser.parse_args()
  training = [image.file for split, image in list_images(args.folder) if split == "train"]
  chosen = np.linspace(0, len(training) - 1, args.images).astype(int)
  images = [cv2.imread(str(args.folder / training[n]), cv2.IMREAD_GRAYSCALE) for n in chosen]
  found = [crop for crop in map(crop_of, images) if crop]
  result: dict = {"images": len(images), "with one face": len(found)}
  for name in found[0]:
    quartiles = np.percentile([crop[name] for crop in found], [25, 50, 75]).round(4).tolist()
    result[name] = dict(zip(("quartile 1", "median", "quartile 3"), quartiles, strict=True))
  print(json.dumps(result, indent=1))
  if args.output:
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
