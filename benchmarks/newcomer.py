"""The first hour of a new user: the commands of the README in an empty environment, timed.

  python benchmarks/newcomer.py --photo photo.jpg --video video.mp4

Makes a virtual environment in a temporary folder, installs this checkout, trains the quickstart
recipe, starts the demo page and waits until it answers, and reads the photograph and
the video from another folder. The compilation cache is empty at the start. Writes the seconds of
each command and the last line that it printed; needs the network only for `pip`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "newcomer.json"
EXTRAS = ".[train,demo,video]"
PORT = 7869
PAGE_LIMIT_S = 120


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--photo", type=pathlib.Path, required=True, help="photograph of a face")
  parser.add_argument("--video", type=pathlib.Path, required=True, help="video of a face")
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="jax_me_newcomer_") as folder:
    rows = time_commands(pathlib.Path(folder), arguments.photo.resolve(), arguments.video.resolve())
  total = round(sum(row["seconds"] for row in rows), 1)
  result = {"python": sys.version.split()[0], "cores": os.cpu_count(), "total_s": total}
  RESULT.write_text(json.dumps(result | {"commands": rows}, indent=2) + "\n")
  print(f"{total} s in all; written to {RESULT}")


def time_commands(folder: pathlib.Path, photo: pathlib.Path, video: pathlib.Path) -> list[dict]:
  """Runs the commands one after the other.

  Args:
    folder: empty folder for the environment, the runs, and the compilation cache.
    photo: an image file with a face.
    video: a video file with a face.

  Returns:
    One row a command: the command, its wall-clock seconds, and the last line that it printed.

  Raises:
    subprocess.CalledProcessError: a command failed.
  """
  # PYTHONPATH would hide what is missing in the new environment.
  environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
  environment["XDG_CACHE_HOME"] = str(folder / "cache")
  environment["PATH"] = f"{folder / 'env' / 'bin'}{os.pathsep}{environment['PATH']}"
  rows = []

  def timed(command: list[str], where: pathlib.Path, shown: str | None = None) -> None:
    print(f"$ {shown or ' '.join(command)}", flush=True)
    start = time.perf_counter()
    done = subprocess.run(
      command, cwd=where, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - start
    lines = done.stdout.strip().splitlines() or [""]
    last = lines[-1].replace(str(folder), ".")
    rows.append({"command": shown or " ".join(command), "seconds": round(seconds, 1), "last": last})
    print(f"  {seconds:.1f} s: {last}", flush=True)

  timed([sys.executable, "-m", "venv", str(folder / "env")], folder, "python -m venv env")
  install = ["pip", "install", "--quiet", "--disable-pip-version-check", EXTRAS]
  timed(install, REPOSITORY, f'pip install "{EXTRAS}"')
  work = folder / "work"
  work.mkdir()
  timed(["jax-me", "train", "--config", "quickstart"], work)
  rows.append(_time_page(work, environment))
  print(f"  {rows[-1]['seconds']} s: {rows[-1]['last']}", flush=True)
  timed(["jax-me", "predict", str(photo)], work, "jax-me predict photo.jpg")
  read_video = ["jax-me", "predict", str(video), "--output", "out", "--annotate"]
  timed(read_video, work, "jax-me predict video.mp4 --output out --annotate")
  return rows


def _time_page(folder: pathlib.Path, environment: dict[str, str]) -> dict:
  """Seconds from `jax-me demo` to the page in a browser."""
  print("$ jax-me demo", flush=True)
  start = time.perf_counter()
  page = subprocess.Popen(
    ["jax-me", "demo", "--port", str(PORT)],
    cwd=folder,
    env=environment,
    stdout=subprocess.DEVNULL,
  )
  try:
    html = ""
    while not html and page.poll() is None and time.perf_counter() - start < PAGE_LIMIT_S:
      try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5) as answer:
          html = answer.read().decode()
      except (urllib.error.URLError, ConnectionError):
        time.sleep(0.2)
    if not html:
      raise subprocess.CalledProcessError(page.poll() or 1, ["jax-me", "demo"])
    seconds = round(time.perf_counter() - start, 1)
    return {"command": "jax-me demo", "seconds": seconds, "last": f"a page of {len(html)} bytes"}
  finally:
    page.terminate()
    page.wait()


if __name__ == "__main__":
  main()
