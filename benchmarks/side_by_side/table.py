"""Tables of docs/performance.md from the files of measurements."""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.side_by_side.measurement import OURS, QUIET
from benchmarks.side_by_side.results import DEVICE, MEASUREMENTS, result_files
from benchmarks.side_by_side.rows import (
  CHANNELS_LAST,
  COMPILED,
  EAGER,
  ONNX_RUNTIME,
  PEER_FORMS,
  ROWS,
)

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "performance.md"
# <!-- measured: FILE --> ... <!-- end -->
_BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_DISTURBED = "†"
_NOTE = (
  f"{_DISTURBED} Other programs took more than {QUIET:.0%} of the processor time: the ratios are "
  "to be measured again on a quiet machine.\n\n"
)
_HEADINGS = {
  EAGER: "eager",
  COMPILED: "`torch.compile`",
  CHANNELS_LAST: "eager, channels last",
  ONNX_RUNTIME: "ONNX Runtime",
}


def with_tables(text: str, contents: Mapping[str, dict[str, Any]] | None = None) -> str:
  """The page with the tables of the present measurements.

  Args:
    text: of the page.
    contents: {name of a file: its content}; None reads those of `results.FOLDER`.

  Returns:
    The text, changed only between the marks.

  Raises:
    ValueError: a file has no place on the page, or a place no file.
  """
  contents = result_files() if contents is None else contents
  places = [found[2] for found in _BLOCK.finditer(text)]
  if sorted(places) != sorted(contents):
    raise ValueError(f"docs/performance.md has the places {places}, the files are {list(contents)}")
  return _BLOCK.sub(lambda found: f"{found[1]}\n{tables(contents[found[2]])}\n{found[4]}", text)


def write_page() -> None:
  """Writes the tables again; a device that is new on the page gets a section at the end."""
  text, contents = PAGE.read_text(encoding="utf-8"), result_files()
  places = [found[2] for found in _BLOCK.finditer(text)]
  for name, content in contents.items():
    if name not in places:
      text += f"\n## {content[DEVICE]['name']}\n\n<!-- measured: {name} -->\n<!-- end -->\n"
  PAGE.write_text(with_tables(text, contents), encoding="utf-8")


def tables(content: dict[str, Any]) -> str:
  """Speeds and compiled programs of one device, as two Markdown tables."""
  return (
    f"{_speeds(content)}\n{_NOTE if _DISTURBED in _speeds(content) else ''}{_programs(content)}"
  )


def _measurements(content: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
  """(name of the row, batch, measurement), in the order of the rows."""
  for name, by_batch in content[MEASUREMENTS].items():
    for batch, measured in by_batch.items():
      yield name, batch, measured


def _speeds(content: dict[str, Any]) -> str:
  header = ["work", "peer", "batch", "ours, images/s", *_HEADINGS.values()]
  rows = [[*header, "ratio of processor time, eager / compiled"]]
  for name, batch, measured in _measurements(content):
    row = ROWS[name]
    if "ratios" not in measured:
      (reason,) = measured["skipped"].values()
      rows.append([row.title, f"{row.peer}; not measured: {reason}", batch, *[""] * 6])
      continue
    floors = row.floors(content[DEVICE]["platform"])
    cells = [_ratio_cell(measured, form, floors.get(form)) for form in PEER_FORMS]
    # Of a CPU the speed itself says little: it changes with the load of the machine.
    on_cpu = content[DEVICE]["platform"] == "cpu"
    speed = "" if on_cpu else f"{measured['images_per_second'][OURS]:.3g}"
    processor = measured.get("processor_time_ratios", {})
    both = " / ".join(f"{processor[form]:.2f}" for form in (EAGER, COMPILED) if form in processor)
    title = f"{row.title} {_DISTURBED}" if measured["other_load"] > QUIET else row.title
    rows.append([title, measured["peer"], batch, speed, *cells, both])
  return _markdown(rows)


def _ratio_cell(measured: dict[str, Any], form: str, floor: float | None) -> str:
  if form not in measured["ratios"]:
    return "" if floor is None else f"not measured; floor {floor:.2f}"
  ratio = measured["ratios"][form]
  text = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
  if floor is None:
    return text
  missed = floor - ratio["median"]
  verdict = f", missed by {missed:.2f}" if round(missed, 2) > 0 else ""
  return f"{text}; floor {floor:.2f}{verdict}"


def _programs(content: dict[str, Any]) -> str:
  rows = [
    [
      "work",
      "batch",
      "products, GFLOP/image",
      "XLA's count, GFLOP/image",
      "accessed, MB/image",
      "peak memory, MiB",
      "compile time, ours over `torch.compile`",
      "MFU",
      "processor time of other programs",
      "largest shares of our time",
    ]
  ]
  for name, batch, measured in _measurements(content):
    if "program" not in measured:
      continue
    program, images = measured["program"], int(batch)
    seconds = measured["compile_seconds"]
    largest = list(measured["operations"].items())[:4]
    rows.append(
      [
        ROWS[name].title,
        batch,
        f"{program['product_flops'] / images / 1e9:.3g}",
        f"{program['xla_flops'] / images / 1e9:.3g}",
        f"{program['xla_bytes_accessed'] / images / 1e6:.0f}",
        f"{program['peak_bytes'] / 2**20:.0f}",
        f"{seconds[OURS] / seconds[COMPILED]:.2f}" if COMPILED in seconds else "",
        _utilisation_cell(measured, ROWS[name].mfu),
        f"{measured['other_load']:.0%}",
        ", ".join(f"{kind} {share:.0%}" for kind, share in largest),
      ]
    )
  return _markdown(rows)


def _utilisation_cell(measured: dict[str, Any], floor: float | None) -> str:
  if "mfu" not in measured:
    return ""
  text = f"{measured['mfu']:.1%}"
  if floor is None:
    return text
  missed = floor - measured["mfu"]
  return f"{text}; floor {floor:.0%}" + (f", missed by {missed:.1%}" if missed > 0 else "")


def _markdown(rows: list[list[str]]) -> str:
  """A table without the columns that have no value below their heading."""
  used = [any(column) for column in zip(*rows[1:], strict=True)]
  rows = [[cell for cell, kept in zip(row, used, strict=True) if kept] for row in rows]
  lines = [f"| {' | '.join(row)} |" for row in rows]
  return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]) + "\n"
