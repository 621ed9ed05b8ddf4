"""A worker process of `faces`: tasks come in as lines of JSON, report rows go out.

Started by `pool` as `python -m jax_me.faces.worker`. First line in: the settings; first line out:
"ready". Then per task one line in, and out one line per row and an empty line. Ends when its input
ends, which also happens when the parent is killed.
"""

import json
import os
import signal
import sys

import cv2

from jax_me.faces import detector, input_files, process_files


def main() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches all processes; the parent decides
  cv2.setNumThreads(1)  # one process per core already
  # Whatever a library prints must not get between the rows.
  replies = os.fdopen(os.dup(1), "w", encoding="ascii")
  os.dup2(2, 1)
  settings = process_files.Settings(**json.loads(sys.stdin.readline()))
  detector.load_models()
  print("ready", file=replies, flush=True)
  for line in sys.stdin:
    names, outputs, is_clip = json.loads(line)
    task = input_files.Task(tuple(names), tuple(outputs), is_clip)
    try:
      for row in process_files.run_task(task, settings):
        print(json.dumps(row), file=replies, flush=task.is_clip)
    except process_files.OutputError as error:
      print(json.dumps({"fatal": str(error)}), file=replies)
    print(file=replies, flush=True)


if __name__ == "__main__":
  try:
    main()
  except BrokenPipeError:  # the parent is gone
    os._exit(1)
