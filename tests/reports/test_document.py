"""Galleries and figures in the HTML and Markdown formats of a document."""

from jax_me.reports.document import Document, Figure, Gallery, Section, Tile, to_html, to_markdown

PNG = b"\x89PNG"
PNG_FILE = PNG + bytes(20)


def document(*galleries: Gallery) -> Document:
  return Document("Faces", [], [Section("Sheet", galleries)])


def test_gallery_without_sheet_is_in_html_only():
  tiles = [Tile([(PNG, "a face")], "p1", ["clip <2>"])]
  rendered = document(Gallery(tiles, heading="calm & glad"))
  page = to_html(rendered)
  assert "<h3>calm &amp; glad</h3>" in page and "clip &lt;2&gt;" in page
  assert to_markdown(rendered, "figures") == "# Faces\n\n## Sheet\n\n### calm \\& glad\n"
  assert rendered.figures == []


def test_gallery_with_sheet_is_a_figure_in_markdown():
  sheet = Figure("sheet.png", PNG, "eight faces", "Caption.")
  rendered = document(Gallery([Tile([(PNG, "a face")], "p1")], sheet, heading="calm"))
  assert "<p>Caption.</p>" in to_html(rendered)
  assert "### calm\n\n![eight faces](figures/sheet.png)" in to_markdown(rendered, "figures")
  assert rendered.figures == [sheet]


def test_charts_are_inverted_on_dark_pages_and_photographs_are_not():
  chart, photograph = (
    Figure("a.png", PNG_FILE, "chart"),
    Figure("b.png", PNG_FILE, "x", photograph=True),
  )
  both = Figure("c.png", PNG_FILE, "timeline", dark=PNG_FILE + b"dark")
  tiles = [Tile([(PNG, "a face")], "p1")]
  assert to_html(document(chart)).count(' class="chart"') == 1
  assert to_html(document(Gallery(tiles, charts=True))).count(' class="chart"') == 1
  for block in (photograph, both, Gallery(tiles)):
    assert 'class="chart"' not in to_html(document(block))
  page = to_html(document(both))
  assert '<picture><source media="(prefers-color-scheme:dark)" srcset="data:image/png' in page
  assert page.count("data:image/png") == 2
