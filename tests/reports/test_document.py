"""Galleries in the HTML and Markdown formats of a document."""

from jax_me.reports.document import Document, Figure, Gallery, Section, Tile, to_html, to_markdown

PNG = b"\x89PNG"


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
