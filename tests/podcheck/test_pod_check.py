"""Pod check: chip data, roofline, report, advice, errors, and one tiny compilation."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jax_me.podcheck import pod_check
from jax_me.podcheck.advice import advise
from jax_me.podcheck.compiled_step import Collective
from jax_me.podcheck.dataset_summary import summarise_dataset
from jax_me.podcheck.pod_check import Memory, PodCheck, Roofline, Work
from jax_me.podcheck.pod_report import as_json, recipe_steps, table
from jax_me.training import recipes, settings
from jax_me.training.chips import CHIPS, GIB, TopologyError, parse_topology

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TINY = [
  "--config.batch_size=8",
  "--config.model.image_size=16",
  "--config.data.read_size=16",
  "--config.model.arguments.patch_size=4",
  "--config.model.arguments.depth=1",
  "--config.model.arguments.embed_dim=32",
  "--config.model.arguments.num_heads=2",
  "--config.model.arguments.decoder_embed_dim=32",
  "--config.model.arguments.decoder_num_heads=2",
  "--config.model.arguments.decoder_depth=1",
]


def recipe(*overrides):
  config = recipes.load_recipe(str(REPOSITORY / "configs/mae_affectnet.py"))
  settings.override(config, overrides)
  return config


def test_chip_data_have_sources_and_are_plausible():
  assert set(CHIPS) == {"v4", "v5e", "v5p", "v6e"}
  for chip in CHIPS.values():
    assert chip.source.startswith("https://cloud.google.com/tpu/docs/")
    # All chips do some hundred operations per byte of HBM bandwidth.
    assert 100 < chip.flops / chip.bandwidth < 1000
    assert chip.interconnect < chip.bandwidth < 1e13


def test_parse_topology():
  topology = parse_topology("v5p:4x4x8")
  assert topology.chips == 128 and str(topology) == "v5p:4x4x8"
  for wrong, message in (
    ("v5e", "v5e:16x16"),
    ("v7x:2x2", "known: v4, v5e, v5p, v6e"),
    ("v5e:2x2x1", "v5e has 2 axes"),
    ("v5e:32x32", "1 to 256 chips"),
  ):
    with pytest.raises(TopologyError, match=message):
      parse_topology(wrong)


def example(fits=True, temporaries=8 * GIB) -> PodCheck:
  topology = parse_topology("v5e:4x4")
  memory = Memory(GIB, 2 * GIB, 0, GIB // 4, 13 * GIB // 4, 0, temporaries if fits else 0, 0)
  work = Work(
    flops=16 * 197 * 10**9,
    compiler_flops=197e9,
    hbm_bytes=819 * 10**7,
    collectives=[Collective("all-reduce", group=16, count=3, bytes=32 * 10**7)],
    unknown_loops=0,
  )
  return PodCheck(
    topology=topology,
    batch_size=4096,
    needed=memory.total if fits else temporaries,
    memory=memory,
    work=work if fits else None,
    seconds=1.0,
    processor_seconds=2.0,
  )


def test_the_bound_is_the_slowest_of_three_resources():
  pod_check = example()
  assert pod_check.roofline.compute == pytest.approx(1e-3)
  assert pod_check.roofline.memory == pytest.approx(10e-3)
  # 2 * 15 / 16 of 0.32 GB at 200 GB/s.
  assert pod_check.roofline.interconnect == pytest.approx(3e-3)
  assert (
    pod_check.roofline.bound == pod_check.roofline.memory and pod_check.roofline.limit == "memory"
  )
  assert Roofline(2.0, 1.0, 1.5).limit == "compute"


def test_a_step_fits_if_it_was_compiled_and_needs_no_more_than_the_memory():
  assert example().fits and not example(temporaries=13 * GIB).fits
  failed = example(fits=False, temporaries=GIB)
  assert not failed.fits and failed.roofline is None


def test_report_has_memory_limit_and_hours():
  config = recipe("--config.batch_size=4096", "--config.epochs=300")
  examples = 287_651
  assert recipe_steps(config, examples) == round(300 * 287_651 / 4096)
  text = table(config, example(), examples)
  assert "11.250 of 15.75: FITS (71 %)" in text
  assert "10.00  819 GB/s  <- limit" in text
  assert "At most 409,600 images/s." in text
  assert "21,068 steps, at least 0.06 hours" in text
  assert all(len(line) <= 100 for line in text.splitlines())
  assert "give --examples" in table(config, example(), 0)
  stored = json.loads(json.dumps(as_json(config, example(), examples, [])))
  assert stored["seconds_at_least"]["limit"] == "memory" and stored["steps"] == 21_068


def test_advice_for_temporaries_that_do_not_fit():
  config = recipe("--config.batch_size=4096")
  pod_check = example(fits=False, temporaries=40 * GIB)
  assert "DOES NOT FIT" in table(config, pod_check, 0)
  found = {next(iter(item.settings)): item for item in advise(config, pod_check)}
  assert set(found) == {"remat", "accum_steps", "batch_size"}
  # 0.85 of 12.5 GiB free memory, less 1 GiB of gradients: a quarter of 40 GiB does not fit.
  assert str(found["accum_steps"]).startswith("--config.accum_steps=8: the same batch in 8 parts")
  assert found["batch_size"].settings["batch_size"] == 1088


def test_advice_for_a_state_that_is_too_large():
  config = recipe("--config.batch_size=4096", "--config.remat=True")
  pod_check = example(fits=False, temporaries=20 * GIB)
  large = Memory(8 * GIB, 16 * GIB, 0, 0, 24 * GIB, 0, 0, 0)
  large_check = dataclasses.replace(pod_check, memory=large)
  found = advise(config, large_check)
  assert found[0].settings == {"mesh.split_update": 16} and "saves 15.0 GiB" in str(found[0])
  assert found[1].settings == {"mesh.fsdp": 8}
  assert "more chips" in str(found[-1])
  config.mesh.split_update = 16  # The state is split already.
  assert not any("mesh" in str(item) for item in advise(config, large_check))


@pytest.mark.parametrize(
  "message, needed",
  [
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
      "temporaries (65.78G) exceeds available HBM (15.75G).",
      int(65.78 * GIB),
    ),
    ("RESOURCE_EXHAUSTED: Used 20.50G of 15.75G hbm. Exceeded by 4.75G.", int(20.5 * GIB)),
    ("INVALID_ARGUMENT: something else", None),
  ],
)
def test_required_bytes_of_out_of_memory_errors(message, needed):
  assert pod_check.required_bytes(message) == needed


def test_summarise_dataset_uses_published_numbers():
  summary = summarise_dataset(recipe())
  assert summary.classes == 8 and summary.examples == 287_651
  quick = recipes.load_recipe(str(REPOSITORY / "configs/finetune_images.py"))
  assert summarise_dataset(quick).examples == 0


def test_settings_are_overridden_as_in_run_py():
  config = recipe(
    "--config.batch_size", "64", "--config.remat=true", "--config.augment.crop_scale=(0.5, 1.0)"
  )
  assert (config.batch_size, config.remat, config.augment.crop_scale) == (64, True, (0.5, 1.0))
  for wrong, message in (
    ("--config.batchsize=4", "did you mean batch_size"),
    ("--config.batch_size=many", "batch_size=many: batch_size takes a whole number"),
    ("--workdir=x", "unknown argument"),
  ):
    with pytest.raises(settings.SettingsError, match=message):
      recipe(wrong)


def command(*arguments, **environment):
  return subprocess.run(
    [sys.executable, "-m", "jax_me", "podcheck", *arguments],
    cwd=REPOSITORY,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=600,
  )


def test_missing_libtpu_error_has_the_install_command(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(pod_check.PodCheckError, match=r'pip install "libtpu==[\d.]+\*?"'):
    pod_check.topology_devices(parse_topology("v5e:2x2"))


def test_invalid_topology_gives_a_one_line_error():
  failed = command("--config=configs/mae_affectnet.py", "--topology=v5e:2x2x2")
  assert failed.returncode == 2
  assert failed.stderr == "podcheck: v5e has 2 axes, for example v5e:4x4, got 'v5e:2x2x2'\n"


def test_a_tiny_step_is_compiled_for_a_slice(tmp_path):
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip(f"needs Google's TPU compiler: {pod_check.install_command()}")
  file = tmp_path / "check.json"
  done = command("--config=configs/mae_affectnet.py", "--topology=v5e:2x2", f"--json={file}", *TINY)
  assert done.returncode == 0, done.stderr
  assert "FITS" in done.stdout and "all-reduce" in done.stdout
  stored = json.loads(file.read_text())
  assert stored["fits"] and stored["chips"] == 4 and stored["hours_at_least"] > 0
  # XLA's count also includes elementwise operations.
  assert stored["work"]["flops"] / 4 <= stored["work"]["compiler_flops"]
