"""Input pipeline: sampling order, resume, multiple processes, padding, decoding, statistics."""

import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import psutil
import pytest

from jax_me.data import image_store, pipeline, sampling
from jax_me.datasets.catalog import prepare

COUNT = 23
SIZE = 8


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
  """23 grey squares; the value of image n is n, its label n % 3, its subject n // 4."""
  folder = tmp_path_factory.mktemp("squares")
  rows = ["file,label,subject"]
  for number in range(COUNT):
    image = np.full((16, 16, 3), number, np.uint8)
    assert cv2.imwrite(str(folder / f"{number:02}.png"), image)
    rows.append(f"{number:02}.png,{'abc'[number % 3]},{number // 4}")
  (folder / "labels.csv").write_text("\n".join(rows))
  return prepare(
    "labeled_images",
    data_dir=str(tmp_path_factory.mktemp("data")),
    manual_dir=str(folder),
    align=False,
    workers=0,
  )


@pytest.fixture(params=[0, 2**20], ids=["decoded anew", "cached"])
def images(request, dataset):
  return image_store.ImageStore(dataset, image_size=SIZE, cache_bytes=request.param)


def take(batches, count):
  taken = [next(batches) for _ in range(count)]
  batches.close()
  return taken


def indices_of(batches):
  return [batch["index"].tolist() for batch in batches]


def check_batch(batch, rows):
  assert batch["image"].shape == (rows, SIZE, SIZE, 3) and batch["image"].dtype == np.uint8
  assert batch["label"].dtype == batch["index"].dtype == np.int32 and batch["mask"].dtype == bool
  real = batch["mask"]
  assert (batch["image"][real] == batch["index"][real, None, None, None]).all()
  assert (batch["label"][real] == batch["index"][real] % 3).all()


def test_each_epoch_is_a_new_permutation_of_all_examples(images):
  batches = take(pipeline.train_batches(images, batch_size=5, seed=1), 23)
  for batch in batches:
    check_batch(batch, 5)
    assert batch["mask"].all()
  stream = np.concatenate(indices_of(batches))
  epochs = stream.reshape(5, COUNT)
  assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 5


def test_batch_may_be_larger_than_the_dataset(images):
  (batch,) = take(pipeline.train_batches(images, batch_size=50, seed=0), 1)
  assert np.bincount(batch["index"], minlength=COUNT).min() == 2


def test_seed_decides_the_order(images):
  first, again, other = (
    indices_of(take(pipeline.train_batches(images, batch_size=5, seed=seed), 4))
    for seed in (1, 1, 2)
  )
  assert first == again != other


def test_only_the_given_indices_are_used(images):
  batches = take(pipeline.train_batches(images, batch_size=4, seed=0, indices=[3, 5, 20]), 6)
  stream = np.concatenate(indices_of(batches))
  assert np.bincount(stream, minlength=COUNT)[[3, 5, 20]].tolist() == [8, 8, 8]


def test_restored_state_gives_the_next_batch(images):
  batches = pipeline.train_batches(images, batch_size=5, seed=1)
  for _ in range(7):
    next(batches)
  state = json.loads(json.dumps(batches.get_state()))
  expected = indices_of(take(batches, 9))
  fresh = pipeline.train_batches(images, batch_size=5, seed=1)
  next(fresh)
  fresh.set_state(state)
  assert fresh.examples_seen == 35 and fresh.epoch_size == COUNT
  assert indices_of(take(fresh, 9)) == expected


def test_state_survives_another_batch_size_and_process_count(images):
  batches = pipeline.train_batches(images, batch_size=6, seed=1)
  next(batches)
  state = batches.get_state()
  expected = np.concatenate(indices_of(take(batches, 2)))
  parts = []
  for process in range(2):
    part = pipeline.train_batches(
      images, batch_size=4, seed=1, process_index=process, process_count=2
    )
    part.set_state(state)
    parts.append(indices_of(take(part, 3)))
  stream = [index for pair in zip(*parts, strict=True) for rows in pair for index in rows]
  assert stream == expected.tolist()


def test_saved_positions_of_earlier_versions_remain_valid():
  names = sampling.ShuffledSampler.state_name, sampling.BalancedSampler.state_name
  assert names == ("ShuffledOrder", "BalancedOrder")


@pytest.mark.parametrize("change", [{"seed": 2}, {"indices": [1, 2]}, {"balanced": True}])
def test_state_of_another_sampling_order_is_rejected(images, change):
  state = pipeline.train_batches(images, batch_size=5, seed=1).get_state()
  other = pipeline.train_batches(images, **{"batch_size": 5, "seed": 1, **change})
  with pytest.raises(ValueError, match="another sampling order"):
    other.set_state(state)


@pytest.mark.slow
def test_worker_processes_give_the_same_batches_and_resume_without_them(dataset):
  images = image_store.ImageStore(dataset, image_size=SIZE, cache_bytes=0)
  expected = indices_of(take(pipeline.train_batches(images, batch_size=5, seed=1), 8))
  batches = pipeline.train_batches(images, batch_size=5, seed=1, workers=2)
  first = take(batches, 3)
  for batch in first:
    check_batch(batch, 5)
  alone = pipeline.train_batches(images, batch_size=5, seed=1)
  alone.set_state(batches.get_state())
  assert indices_of(first) + indices_of(take(alone, 5)) == expected


READER = """
import pickle, sys
from jax_me.data import pipeline
if __name__ == "__main__":
  images = pickle.load(sys.stdin.buffer)
  batches = pipeline.train_batches(images, batch_size=5, seed=1, workers=2)
  next(batches)
  print("ready", flush=True)
  sys.stdin.buffer.read()
"""


def shared_memory_of(processes):
  """Names in /dev/shm that processes have mapped: shared memory and semaphores."""
  paths = [mapped.path for process in processes for mapped in process.memory_maps()]
  return {pathlib.Path(path).name for path in paths if path.startswith("/dev/shm/")}


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/dev/shm").is_dir(), reason="there is no /dev/shm")
def test_workers_end_with_a_killed_process_and_leave_no_shared_memory(
  dataset, tmp_path, repository
):
  (tmp_path / "reader.py").write_text(READER)
  reader = subprocess.Popen(
    [sys.executable, tmp_path / "reader.py"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env={**os.environ, "PYTHONPATH": str(repository)},
  )
  pickle.dump(image_store.ImageStore(dataset, image_size=SIZE, cache_bytes=0), reader.stdin)
  reader.stdin.flush()
  assert reader.stdout.readline() == b"ready\n"
  process = psutil.Process(reader.pid)
  workers = process.children()
  shared = shared_memory_of([process, *workers])
  assert shared & set(os.listdir("/dev/shm"))
  reader.kill()
  reader.communicate()
  assert not psutil.wait_procs(workers, timeout=30)[1]
  assert not shared & set(os.listdir("/dev/shm"))


def test_processes_share_every_batch(images):
  whole = indices_of(take(pipeline.train_batches(images, batch_size=6, seed=1), 5))
  parts = [
    indices_of(
      take(
        pipeline.train_batches(
          images, batch_size=6, seed=1, process_index=process, process_count=3
        ),
        5,
      )
    )
    for process in range(3)
  ]
  assert [sum(rows, []) for rows in zip(*parts, strict=True)] == whole


def test_balanced_batches_draw_classes_and_their_examples_equally(images):
  # Classes a, b, c with 6, 2 and 1 examples.
  chosen = [0, 3, 6, 9, 12, 15, 1, 4, 2]
  batches = take(
    pipeline.train_batches(images, batch_size=6, seed=1, indices=chosen, balanced=True), 12
  )
  for batch in batches:
    assert np.bincount(batch["label"]).tolist() == [2, 2, 2]
  counts = np.bincount(np.concatenate(indices_of(batches)), minlength=COUNT)
  assert counts[chosen].tolist() == [4] * 6 + [12] * 2 + [24]
  again = pipeline.train_batches(images, batch_size=6, seed=1, indices=chosen, balanced=True)
  assert indices_of(take(again, 12)) == indices_of(batches)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("chosen", [None, [4, 2, 9], [7]])
def test_evaluation_has_every_example_once_and_pads(images, processes, chosen):
  wanted = list(range(COUNT)) if chosen is None else chosen
  parts = [
    pipeline.eval_batches(
      images, batch_size=8, indices=chosen, process_index=process, process_count=processes
    )
    for process in range(processes)
  ]
  seen = []
  for part in parts:
    assert len(part) == -(-len(wanted) // 8)
    batches = list(part)
    assert len(batches) == len(part)
    for batch in batches:
      check_batch(batch, 8 // processes)
      padding = ~batch["mask"]
      assert (batch["index"][padding] == -1).all() and not batch["label"][padding].any()
      assert not batch["image"][padding].any()
      seen += batch["index"][batch["mask"]].tolist()
    assert indices_of(part) == indices_of(batches)
  assert sorted(seen) == sorted(wanted)
  if processes == 1:
    assert seen == wanted


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"batch_size": 0}, "at least 1"),
    ({"indices": []}, "non-empty"),
    ({"indices": [0.5]}, "integers"),
    ({"indices": [1, 1]}, "1 occurs more than once"),
    ({"indices": [-1]}, "negative"),
    ({"indices": [COUNT]}, "outside"),
    ({"process_count": 2}, "must be a multiple of the 2 processes"),
    ({"process_index": 1}, "does not exist"),
    ({"seed": -1}, "seed"),
    ({"workers": -1}, "workers"),
  ],
)
def test_invalid_arguments_are_rejected(images, arguments, message):
  with pytest.raises(ValueError, match=message):
    pipeline.train_batches(images, **{"batch_size": 5, "seed": 0, **arguments})


def test_samplers_have_random_access():
  shuffled = sampling.ShuffledSampler(np.arange(10), 3)
  stream = shuffled.at(0, 60)
  assert all((shuffled.at(start, 7) == stream[start : start + 7]).all() for start in range(50))
  balanced = sampling.BalancedSampler(np.arange(10), np.arange(10) % 4 // 2, 3)
  stream = balanced.at(0, 60)
  assert all((balanced.at(start, 7) == stream[start : start + 7]).all() for start in range(50))
  with pytest.raises(ValueError, match="labels of shape"):
    sampling.BalancedSampler(np.arange(3), np.arange(2), 0)


READER_SCRIPT = """
import json, sys
from jax_me.data import image_store, pipeline
from jax_me.datasets.catalog import prepare

builder = prepare("labeled_images", data_dir=sys.argv[1], align=False)
images = image_store.ImageStore(builder, image_size=8)
share = {"process_index": int(sys.argv[2]), "process_count": 2}
batches = pipeline.train_batches(images, batch_size=4, seed=5, indices=range(20), **share)
epoch = [next(batches)["index"].tolist() for _ in range(5)]
batches.close()
test = pipeline.eval_batches(images, batch_size=4, **share)
print(json.dumps([epoch, [batch["index"].tolist() for batch in test]]))
"""


@pytest.mark.slow
def test_two_processes_read_disjoint_halves_that_cover_everything(dataset, repository):
  data_dir = str(pathlib.Path(dataset.data_path).parents[2])
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", READER_SCRIPT, data_dir, str(number)],
      env={**os.environ, "PYTHONPATH": str(repository)},
      stdout=subprocess.PIPE,
    )
    for number in range(2)
  ]
  halves = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
  for part, everything in ((0, range(20)), (1, range(COUNT))):
    first, second = ({i for rows in half[part] for i in rows if i >= 0} for half in halves)
    assert not first & second and first | second == set(everything)
    assert len(halves[0][part]) == len(halves[1][part])
  assert len(first) - len(second) in (0, 1)


TRAINER_SCRIPT = """
import json, pathlib, sys, time
from jax_me.data import image_store, pipeline
from jax_me.datasets.catalog import prepare

builder = prepare("labeled_images", data_dir=sys.argv[1], align=False)
images = image_store.ImageStore(builder, image_size=8, cache_bytes=0)
batches = pipeline.train_batches(images, batch_size=3, seed=5)
checkpoint = pathlib.Path("checkpoint.json")
if checkpoint.exists():
  batches.set_state(json.loads(checkpoint.read_text()))
for _ in range(int(sys.argv[2])):
  indices = next(batches)["index"].tolist()
  saved = pathlib.Path("new.json")
  saved.write_text(json.dumps(batches.get_state()))
  saved.rename(checkpoint)
  with open("log", "a") as log:
    log.write(json.dumps(indices) + "\\n")
  time.sleep(0.05)
"""


@pytest.mark.slow
def test_killed_process_continues_with_the_next_batch(tmp_path, dataset, repository):
  (tmp_path / "trainer.py").write_text(TRAINER_SCRIPT)
  data_dir = pathlib.Path(dataset.data_path).parents[2]
  environment = {**os.environ, "PYTHONPATH": str(repository)}

  def start(steps):
    command = [sys.executable, "trainer.py", str(data_dir), str(steps)]
    return subprocess.Popen(command, cwd=tmp_path, env=environment)

  log = tmp_path / "log"
  process = start(1000)
  deadline = time.monotonic() + 60
  while not log.exists() or len(log.read_text().splitlines()) < 4:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  done = json.loads((tmp_path / "checkpoint.json").read_text())["examples_seen"] // 3
  before = [json.loads(line) for line in log.read_text().splitlines()][:done]
  log.write_text("".join(json.dumps(rows) + "\n" for rows in before))
  assert start(6).wait(timeout=60) == 0
  resumed = [json.loads(line) for line in log.read_text().splitlines()]
  images = image_store.ImageStore(dataset, image_size=SIZE)
  expected = indices_of(take(pipeline.train_batches(images, batch_size=3, seed=5), done + 6))
  # The process may have been killed between saving a position and logging its batch.
  assert resumed[-6:] == expected[-6:] and resumed[: len(before)] == expected[: len(before)]


def test_images_can_be_read_in_any_order_and_again(images):
  wanted = [5, 0, 22, 5]
  for _ in range(2):
    assert images.images(wanted)[:, 3, 3, 1].tolist() == wanted
  assert (images.image(7) == 7).all() and len(images) == COUNT
  with pytest.raises(IndexError, match="positions must lie"):
    images.images([COUNT])


def test_returned_arrays_are_writable_copies(images):
  images.images([1, 2])[:] = 0
  (batch,) = pipeline.eval_batches(images, batch_size=2, indices=[1, 2])
  batch["image"][:] = 0
  assert images.images([1, 2])[:, 0, 0, 0].tolist() == [1, 2]


def test_store_is_pickled_without_its_pixels(dataset):
  cached = image_store.ImageStore(dataset, image_size=SIZE)
  cached.images(range(COUNT))
  assert cached.cached
  restored = pickle.loads(pickle.dumps(cached))
  assert not restored.cached and (restored.image(9) == 9).all()


def test_cache_stays_within_its_limit(dataset):
  need = COUNT * SIZE * SIZE * 3
  assert image_store.ImageStore(dataset, image_size=SIZE, cache_bytes=need).cached
  assert not image_store.ImageStore(dataset, image_size=SIZE, cache_bytes=need - 1).cached
  for arguments in ({"image_size": 0}, {"image_size": 8, "cache_bytes": -1}):
    with pytest.raises(ValueError, match="image_size|cache_bytes"):
      image_store.ImageStore(dataset, **arguments)


def test_damaged_record_names_the_image(dataset, monkeypatch):
  images = image_store.ImageStore(dataset, image_size=SIZE, cache_bytes=0)
  monkeypatch.setattr(images, "encoded", lambda position: b"\xff\xd8broken")
  with pytest.raises(ValueError, match="04.png.*build it again"):
    images.image(4)


def test_channel_statistics_of_the_selected_images(images):
  mean, std = pipeline.channel_statistics(images, [2, 4, 9])
  values = np.array([2, 4, 9]) / 255
  assert mean.dtype == std.dtype == np.float32
  np.testing.assert_allclose(mean, [values.mean()] * 3, rtol=1e-6)
  np.testing.assert_allclose(std, [values.std()] * 3, rtol=1e-6)
  everything, _ = pipeline.channel_statistics(images)
  np.testing.assert_allclose(everything, [np.arange(COUNT).mean() / 255] * 3, rtol=1e-6)


def test_memory_does_not_grow(dataset):
  images = image_store.ImageStore(dataset, image_size=128, cache_bytes=0)
  batches = pipeline.train_batches(images, batch_size=16, seed=0)
  process = psutil.Process()
  for _ in range(100):
    next(batches)
  before = process.memory_info().rss
  for _ in range(300):  # 236 MB of images
    next(batches)
  batches.close()
  assert process.memory_info().rss - before < 30 * 2**20
