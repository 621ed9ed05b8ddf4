"""The demo page in headless Chromium, clicked through at two widths."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from jax_me.demo.example_inputs import example_inputs
from tests.helpers.inference_models import LABELS, save

pytestmark = pytest.mark.slow

START_SECONDS = 300
SECONDS = 120  # For one step; the first one compiles the model.
WHY = "not part of requirements.txt because of its size: pip install gradio playwright"


def find_browser():
  """Path of Chromium, and the function that starts Playwright; skips where one is missing."""
  pytest.importorskip("gradio", reason=WHY)
  playwright = pytest.importorskip("playwright.sync_api", reason=WHY)
  path = shutil.which("chromium") or shutil.which("google-chrome")
  if path is None:
    pytest.skip("no Chromium on this computer: apt-get install chromium")
  return path, playwright.sync_playwright


@pytest.fixture(scope="module")
def page_address(tmp_path_factory, repository):
  """Address of a page with a small model, and the folder of its uploads."""
  find_browser()
  root = tmp_path_factory.mktemp("demo")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  (root / "tmp").mkdir()
  environment = {**os.environ, "TMPDIR": str(root / "tmp"), "JAX_ME_CACHE": str(root / "cache")}
  environment["PYTHONPATH"] = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
  command = [sys.executable, "-m", "jax_me", "demo", "--checkpoint", str(save(root / "model"))]
  with (root / "log").open("w") as log:
    server = subprocess.Popen(
      [*command, "--port", str(port)], env=environment, cwd=root, stdout=log, stderr=log
    )
  address = f"http://127.0.0.1:{port}/"
  try:
    _wait_for(address, server, root / "log")
    yield address, root
  finally:
    server.send_signal(signal.SIGTERM)
    server.wait(60)
  # No upload and no result stays on the disk, and nothing is written to the working folder.
  assert not list((root / "tmp").glob("jax_me_demo_*"))
  assert {path.name for path in root.iterdir()} <= {"tmp", "cache", "model", "log", "bad.png"}


def _wait_for(address: str, server: subprocess.Popen, log: pathlib.Path) -> None:
  end = time.monotonic() + START_SECONDS
  while time.monotonic() < end:
    assert server.poll() is None, log.read_text()
    with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:
      if answer.status == 200 and "http://" in log.read_text():
        return
    time.sleep(0.5)
  raise AssertionError(log.read_text())


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (390, "dark")])
def test_click_through(page_address, width, colours):
  chromium, sync_playwright = find_browser()
  address, root = page_address
  bad = root / "bad.png"
  bad.write_text("no image")
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
    page.set_default_timeout(1000 * SECONDS)
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    assert "Limits and law" in page.locator("#limits").inner_text()

    page.locator("#photograph-upload input[type=file]").set_input_files(bad)
    remove = page.get_by_label("Remove Image")
    remove.wait_for()
    page.locator("#photograph-run").click()
    message = page.locator("#photograph-result p.warning")
    message.wait_for()
    assert "bad.png cannot be read as a photograph" in message.inner_text()

    remove.click()
    page.locator(".gallery-item:visible").first.click()
    page.locator("#photograph-upload img").wait_for()
    page.locator("#photograph-run").click()
    page.locator("#photograph-result table").wait_for()
    assert page.locator("#photograph-annotated img").is_visible()
    text = page.locator("#photograph-result").inner_text()
    assert all(part in text for part in (*LABELS, "attention rollout", "Grad-CAM"))

    page.get_by_role("tab", name="Clip").click()
    page.locator("#clip-run").click()
    assert "Choose a clip" in page.locator("#clip-result p.warning").inner_text()
    page.locator(".gallery-item:visible").first.click()
    page.locator("#clip-upload video").wait_for()
    page.locator("#clip-run").click()
    page.locator("#clip-result section").first.wait_for()
    assert page.locator("#clip-result video").count() == 1
    assert page.get_by_text("Timeline", exact=True).is_visible()
    assert "predictions.csv" in page.locator("#clip-files").inner_text().replace("\n", "")

    page.get_by_role("tab", name="Model").click()
    assert "calm" in page.locator("#card").inner_text()
    # Nothing is cut off, and nothing is loaded from elsewhere.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert not outside
    browser.close()


def test_example_inputs_are_rendered_once(tmp_path, monkeypatch):
  pytest.importorskip("skimage")
  monkeypatch.setenv("JAX_ME_CACHE", str(tmp_path))
  first = example_inputs()
  assert len(first.photographs) == 3 and len(first.clips) == 1
  written = [path.stat().st_mtime_ns for path in first.photographs]
  assert example_inputs() == first
  np.testing.assert_array_equal(written, [path.stat().st_mtime_ns for path in first.photographs])
