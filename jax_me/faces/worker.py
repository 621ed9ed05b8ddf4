"""Worker process of the `faces` command: JSON tasks on stdin, JSON report rows on stdout.

Started by `worker_pool` as `python -m jax_me.faces.worker`. The first input line holds the
settings; the first output line is "ready". Each further input line is a task, answered by one line
per row and an empty line. The process ends when its input ends, also when the parent is killed.
"""

import json
import os
import signal
import sys

import cv2

from jax_me.faces import alignment_task, detector, input_files


def main() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches all processes; the parent decides
  cv2.setNumThreads(1)  # there is already one process per core
  # Anything a library prints must not mix with the rows.
  replies = os.fdopen(os.dup(1), "w", encoding="ascii")
  os.dup2(2, 1)
  settings = alignment_task.AlignmentSettings(**json.loads(sys.stdin.readline()))
  detector.load_models()
  print("ready", file=replies, flush=True)
  for line in sys.stdin:
    names, outputs, is_clip = json.loads(line)
    task = input_files.AlignmentTask(tuple(names), tuple(outputs), is_clip)
    try:
      for row in alignment_task.run_task(task, settings):
        print(json.dumps(row), file=replies, flush=task.is_clip)
    except alignment_task.OutputError as error:
      print(json.dumps({"fatal": str(error)}), file=replies)
    print(file=replies, flush=True)


if __name__ == "__main__":
  try:
    main()
  except BrokenPipeError:  # the parent has ended
    os._exit(1)
