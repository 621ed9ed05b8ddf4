"""Blocks of a page that only some documents use."""

from jax_me.reports.document import Document, Gallery, Picture, Section, Tile, to_html, to_markdown

PNG = b"\x89PNG"


def document(*galleries: Gallery) -> Document:
  return Document("Faces", [], [Section("Sheet", galleries)])


def test_gallery_without_sheet_stands_on_the_page_only():
  tiles = [Tile([(PNG, "a face")], "p1", ["clip <2>"])]
  made = document(Gallery(tiles, heading="calm & glad"))
  page = to_html(made)
  assert "<h3>calm &amp; glad</h3>" in page and "clip &lt;2&gt;" in page
  assert to_markdown(made, "pictures") == "# Faces\n\n## Sheet\n\n### calm \\& glad\n"
  assert made.pictures == []


def test_gallery_with_sheet_gives_it_to_markdown():
  sheet = Picture("sheet.png", PNG, "eight faces", "What they show.")
  made = document(Gallery([Tile([(PNG, "a face")], "p1")], sheet, heading="calm"))
  assert "<p>What they show.</p>" in to_html(made)
  assert "### calm\n\n![eight faces](pictures/sheet.png)" in to_markdown(made, "pictures")
  assert made.pictures == [sheet]
