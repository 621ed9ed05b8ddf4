"""Runner of one expression classifier on lists of images, in the environment of its package.

  PYTHON expression_runner.py TASK.json RESULT.json

TASK is {"package", "model", "sets": {name: {"files", "crops"}}}. `benchmarks/expression_models.py`
writes it and reads the result. Only the packages that are compared are imported: the interpreter
is that of their environment.
"""

import importlib.metadata
import json
import pathlib
import re
import sys
import time

WARM_UP = 4  # Images read before the time is taken.


def main() -> None:
  task = json.loads(pathlib.Path(sys.argv[1]).read_text())
  classifier = CLASSIFIERS[task["package"]](task["model"])
  sets = {}
  for name, images in task["sets"].items():
    classify = classifier.crops if images["crops"] else classifier.photographs
    classify(images["files"][:WARM_UP])
    start = time.perf_counter()
    scores = classify(images["files"])
    sets[name] = {"scores": scores, "seconds": time.perf_counter() - start}
  versions, size, missing = installed(classifier.distributions)
  result = {
    "version": versions.get(task["package"], ""),
    "installed_bytes": size + classifier.own_bytes,
    "not_installed": missing,
    "sets": sets,
  }
  pathlib.Path(sys.argv[2]).write_text(json.dumps(result))


class Fer:
  """fer (pypi.org/project/fer) with its defaults: quantised model, Haar cascade."""

  distributions = ("fer",)
  own_bytes = 0

  def __init__(self, model):
    import cv2
    import numpy as np
    from fer.fer import FER

    self._read = cv2.imread
    self._photographs = FER()
    # The box of a crop is the whole image; no margin is added to it.
    self._crops = FER(offsets=(0, 0))
    self._box = lambda image: np.array([[0, 0, image.shape[1], image.shape[0]]])

  def photographs(self, files):
    found = (self._photographs.detect_emotions(self._read(file)) for file in files)
    return [largest(faces) for faces in found]

  def crops(self, files):
    images = map(self._read, files)
    return [self._crops.detect_emotions(x, self._box(x))[0]["emotions"] for x in images]


def largest(faces):
  """Scores of the face with the largest box, None without faces."""
  if not faces:
    return None
  return max(faces, key=lambda face: float(face["box"][2]) * float(face["box"][3]))["emotions"]


class FaceX:
  """facex (pypi.org/project/facex) with its own Haar cascade."""

  distributions = ("facex",)
  own_bytes = 0

  def __init__(self, model):
    import cv2
    from facex.core import PoolManager

    self._cv2 = cv2
    self._worker = PoolManager(pool_size=1).get_classifier()

  def photographs(self, files):
    results = []
    for file in files:
      faces = self._worker.predict(self._cv2.imread(file))
      results.append(
        largest([{"box": face["bbox"], "emotions": floats(face["emot"])} for face in faces])
      )
    return results

  def crops(self, files):
    grey = (self._cv2.imread(file, self._cv2.IMREAD_GRAYSCALE) for file in files)
    return [floats(self._worker.detect_emotion(image)) for image in grey]


def floats(scores):
  return {label: float(score) for label, score in scores.items()}


class JaxMe:
  """A model folder of jax_me; "" is the model of the package."""

  def __init__(self, model):
    root = pathlib.Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(root))
    import jax_me

    self._predictor = jax_me.load(model) if model else jax_me.load()
    project = (root / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.S | re.M)
    self.distributions = re.findall(r'"([A-Za-z0-9_.-]+)', listed[1])
    folders = [root / "jax_me", root / "configs", root / "convert"]
    folders += [pathlib.Path(model)] if model else []
    self.own_bytes = sum(map(folder_bytes, folders))

  def photographs(self, files):
    align = None if self._predictor.saved.alignment["align"] else True
    return [self._scores(faces) for faces in self._predictor.predict(files, align=align)]

  def crops(self, files):
    return [self._scores(faces) for faces in self._predictor.predict(files, align=False)]

  def _scores(self, faces):
    return faces[0].scores if faces[0].status == "ok" else None


def folder_bytes(folder):
  """Bytes of the files of a folder, without compiled Python."""
  files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
  return sum(path.stat().st_size for path in files)


def installed(roots):
  """Versions and bytes of distributions with everything that they require, extras excepted.

  Args:
    roots: their names.

  Returns:
    {name: version}, bytes on the disk, names of required distributions that are not installed.
  """
  versions, missing, size, left = {}, [], 0, list(roots)
  while left:
    name = re.sub(r"[-_.]+", "-", left.pop()).lower()
    if name in versions or name in missing:
      continue
    try:
      distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
      missing.append(name)
      continue
    versions[name] = distribution.version
    for file in distribution.files or ():
      path = file.locate()
      size += path.stat().st_size if path.is_file() and path.suffix != ".pyc" else 0
    for requirement in distribution.requires or ():
      if applies(requirement):
        left.append(re.match(r"[A-Za-z0-9_.-]+", requirement)[0])
  return versions, size, sorted(missing)


def applies(requirement):
  """Whether a requirement holds in this environment without extras."""
  from packaging.requirements import Requirement

  marker = Requirement(requirement).marker
  return marker is None or marker.evaluate({"extra": ""})


CLASSIFIERS = {"fer": Fer, "facex": FaceX, "jax_me": JaxMe}

if __name__ == "__main__":
  main()
