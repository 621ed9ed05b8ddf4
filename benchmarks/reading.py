"""Spotting and recognition in long videos, end to end: spotting F1 and label accuracy.

  python run.py --config configs/quickstart.py
  python benchmarks/reading.py --checkpoint runs/quickstart --output benchmarks/results/reading.json

Long videos of synthetic subjects that are not in the training data (the test seed of
`benchmarks/spotting.py`) are written to files and read by `python -m jax_me predict`. Its
events.json is scored by the MEGC rule (intersection over union of at least 0.5). The label accuracy
is over the events that were found.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import cv2

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.datasets.synthetic import clip_rendering  # noqa: E402
from jax_me.evaluation.spotting_scores import match_intervals, score_spotting  # noqa: E402

SEED = 202


def write_video(path: pathlib.Path, subject: int, seconds: float, step: int) -> list[dict]:
  """Writes every step-th frame of a 100 fps video as Motion JPEG; returns the true events."""
  video = clip_rendering.demo_video(SEED, subject, 0, seconds)
  side = video.frame(0).shape[0]
  code = cv2.VideoWriter_fourcc(*"MJPG")
  file = cv2.VideoWriter(str(path), code, video.fps / step, (side, side))
  file.set(cv2.VIDEOWRITER_PROP_QUALITY, 95)
  for number in range(0, video.length, step):
    file.write(cv2.cvtColor(video.frame(number), cv2.COLOR_RGB2BGR))
  file.release()
  return [
    {"interval": (event.onset // step, event.offset // step), "label": event.label}
    for event in video.events
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--checkpoint", required=True, help="workdir of a run on the demo clips")
  parser.add_argument("--videos", type=int, default=10)
  parser.add_argument("--seconds", type=float, default=15.0)
  parser.add_argument(
    "--step", type=int, default=3, help="use every step-th frame; 3: 33 fps, 1: 100 fps"
  )
  parser.add_argument("--output", type=pathlib.Path)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    truth = {
      f"v{n}": write_video(folder / f"v{n}.avi", n, args.seconds, args.step)
      for n in range(args.videos)
    }
    videos = [str(folder / f"{video}.avi") for video in truth]
    command = [sys.executable, "-m", "jax_me", "predict", *videos]
    command += ["--checkpoint", args.checkpoint, "--output", str(folder / "out")]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    read = json.loads((folder / "out/events.json").read_text())
  found = {
    pathlib.Path(video["video"]).stem: [
      {"interval": (event["onset"], event["offset"]), "label": event["label"]}
      for event in video["events"]
    ]
    for video in read["videos"]
  }
  report = {
    "model": read["model"]["name"],
    "input": read["model"]["input"],
    "trained_on": read["model"]["trained_on"].partition("/")[0],
    "videos": args.videos,
    "seconds": args.seconds,
    "fps": round(clip_rendering.FPS / args.step, 2),
    **score(found, truth),
  }
  print(json.dumps(report, indent=2))
  if args.output:
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n")


def score(found: dict[str, list[dict]], truth: dict[str, list[dict]]) -> dict:
  """Spotting scores pooled over all videos, and the label accuracy of the events found."""
  spotted = score_spotting(intervals(found), intervals(truth))
  correct = 0
  for video, events in truth.items():
    pairs = match_intervals(intervals(found)[video], intervals(truth)[video])
    correct += sum(found[video][f]["label"] == events[t]["label"] for f, t in pairs)
  return {
    "right": spotted.true_positives,
    "wrong": spotted.false_positives,
    "missed": spotted.false_negatives,
    "spotting_f1": round(spotted.f1, 4),
    "labels_right": correct,
    "label_accuracy": round(correct / max(spotted.true_positives, 1), 4),
  }


def intervals(events: dict[str, list[dict]]) -> dict[str, list[tuple[int, int]]]:
  return {video: [event["interval"] for event in found] for video, found in events.items()}


if __name__ == "__main__":
  main()
