"""Memory of `predict` over an hour of video, of a face that stands still and of moving people.

  python benchmarks/video_memory.py --output benchmarks/results/video_memory.json
  python benchmarks/video_memory.py --minutes 10 --videos moving

The static video repeats one image (a photograph of the London faces if the optional local test data
are present, else a synthetic person). In the moving one a synthetic person shows expressions, moves
about and leaves the image for some seconds in each minute; every three minutes it is another
person, so that the number of people and of events grows with the length. The videos are read by
`python -m jax_me predict`, with motion, events and report, by a model with random weights.

While the command runs, its resident memory is noted with the position in the video, which is the
last row of predictions.csv.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import cv2
import numpy as np
import psutil

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.video import LONDON, make_model  # noqa: E402
from jax_me.datasets.synthetic import clip_rendering  # noqa: E402
from jax_me.faces.image_files import read_image  # noqa: E402

SIZE, FACE = (480, 360), 240
MODEL = "vit_tiny_patch16"
PERSON_SECONDS, AWAY_SECONDS = 180, 6
EARLY_MINUTE = 5
MEBIBYTE = 2**20


def static_frames(count: int, fps: int) -> Iterator[np.ndarray]:
  """Yields one image again and again, uint8 [360, 480, 3] RGB."""
  del fps
  photographs = sorted(LONDON.glob("*_neutral.jpg")) if LONDON.is_dir() else []
  face = (
    read_image(photographs[0]) if photographs else clip_rendering.demo_video(7, 0, 0, 1.0).frame(0)
  )
  canvas = place(face, 0.0)
  for _ in range(count):
    yield canvas


def moving_frames(count: int, fps: int) -> Iterator[np.ndarray]:
  """Yields people who move, leave and are replaced, uint8 [360, 480, 3] RGB."""
  empty = np.full((SIZE[1], SIZE[0], 3), 110, np.uint8)
  person, clip = -1, None
  for number in range(count):
    seconds = number / fps
    if seconds // PERSON_SECONDS != person:
      person = int(seconds // PERSON_SECONDS)
      clip = clip_rendering.demo_video(7, person, 0, float(PERSON_SECONDS))
    if seconds % 60 >= 60 - AWAY_SECONDS:
      yield empty
      continue
    within = seconds - person * PERSON_SECONDS
    yield place(clip.frame(int(within * clip.fps)), 80 * np.sin(seconds / 3))


def place(face: np.ndarray, shift: float) -> np.ndarray:
  """A frame with the face in the middle, moved to the right by `shift` pixels."""
  canvas = np.full((SIZE[1], SIZE[0], 3), 110, np.uint8)
  left, top = (SIZE[0] - FACE) // 2 + round(shift), (SIZE[1] - FACE) // 2
  canvas[top : top + FACE, left : left + FACE] = cv2.resize(
    face, (FACE, FACE), interpolation=cv2.INTER_AREA
  )
  return canvas


VIDEOS = {"static": static_frames, "moving": moving_frames}


def make_video(path: pathlib.Path, kind: str, minutes: float, fps: int) -> int:
  """Writes the video; returns the number of frames."""
  count = round(minutes * 60 * fps)
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, SIZE)
  for frame in VIDEOS[kind](count, fps):
    writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
  writer.release()
  return count


def last_frame(table: pathlib.Path) -> int | None:
  """Frame number of the last whole row of a table that is being written; None before the first."""
  try:
    with table.open("rb") as file:
      header = file.readline().decode().strip().split(",")
      file.seek(max(file.tell(), table.stat().st_size - 4096))
      lines = file.read().decode().splitlines()[1:-1]
  except FileNotFoundError:
    return None
  rows = list(csv.DictReader(lines[-1:], fieldnames=header))
  return int(rows[0]["frame"]) if rows else None


def read(video: pathlib.Path, model: pathlib.Path, output: pathlib.Path, fps: int) -> dict:
  """Runs `predict`; memory after 5 minutes of the video and at its end, and the highest."""
  command = [sys.executable, "-m", "jax_me", "predict", str(video), "--align"]
  command += ["--checkpoint", str(model), "--output", str(output)]
  environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
  started, samples = time.monotonic(), []
  with tempfile.TemporaryFile("w+") as log:
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
      try:
        memory = watched.memory_info().rss / MEBIBYTE
      except psutil.Error:
        break
      samples.append((last_frame(output / "predictions.csv"), memory))
      time.sleep(0.5)
    if process.wait():
      log.seek(0)
      raise SystemExit(log.read())
  seconds = time.monotonic() - started
  minutes = [(frame / fps / 60, memory) for frame, memory in samples if frame is not None]
  end = max(minute for minute, _ in minutes)
  early = [memory for minute, memory in minutes if minute <= EARLY_MINUTE]
  late = [memory for minute, memory in minutes if minute > end - 1]
  record = json.loads((output / "events.json").read_text())["videos"][0]
  with (output / "summary.csv").open(newline="") as file:
    people = len(list(csv.DictReader(file)))
  return {
    "frames": record["frames"],
    "frames_per_second": round(record["frames"] / seconds, 1),
    "people": people,
    "expressions": len(record["events"]),
    "mib_after_5_minutes": round(float(np.median(early[-20:]))),
    "mib_in_the_last_minute": round(float(np.median(late))),
    "mib_highest_in_5_minutes": round(max(early)),
    "mib_highest": round(max(memory for _, memory in samples)),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--minutes", type=float, default=60.0)
  parser.add_argument("--fps", type=int, default=15)
  parser.add_argument("--videos", nargs="+", choices=VIDEOS, default=list(VIDEOS))
  parser.add_argument("--output", type=pathlib.Path)
  args = parser.parse_args()
  report = {"minutes": args.minutes, "fps": args.fps, "size": SIZE, "model": MODEL, "videos": {}}
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    make_model(folder / "model", MODEL)
    for kind in args.videos:
      video = folder / f"{kind}.mp4"
      make_video(video, kind, args.minutes, args.fps)
      report["videos"][kind] = read(video, folder / "model", folder / "out", args.fps)
      print(kind, json.dumps(report["videos"][kind], indent=1), flush=True)
      shutil.rmtree(folder / "out")
      video.unlink()
  if args.output:
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  main()
