"""Documents made of a few kinds of blocks, rendered as one HTML page or as Markdown with figures.

The page is self-contained: figures and videos are embedded, there are no scripts, and its content
security policy forbids loading anything. It suits phones and screen readers, and follows the light
or dark colours of the system. All text is treated as data and escaped in both formats.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
  """A paragraph; a `warning` is highlighted."""

  text: str
  warning: bool = False


@dataclass(frozen=True)
class KeyFigures:
  """The most important numbers, shown large: (name, value, note) each."""

  values: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
  """Rows of texts; the first cell of a row is its name. A long table can be `collapsed`."""

  caption: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  collapsed: bool = False
  separate_last_row: bool = False  # The last row is of another kind, such as a mean.


@dataclass(frozen=True)
class Figure:
  """A PNG with a description of its content (`alt`) and a caption.

  A dark page shows `dark` if it is given. Otherwise it inverts the brightness of the figure, unless
  it is a `photograph` or colours have a meaning.
  """

  name: str  # File name in the Markdown format.
  png: bytes
  alt: str
  caption: str = ""
  dark: bytes | None = None
  photograph: bool = False


@dataclass(frozen=True)
class Tile:
  """Small images with a heading and lines of text below; a `marked` tile is highlighted."""

  images: Sequence[tuple[bytes, str]]  # (PNG or JPEG, alt), side by side.
  heading: str
  lines: Sequence[str] = ()
  marked: bool = False


@dataclass(frozen=True)
class Gallery:
  """Tiles in as many columns as fit; Markdown shows the `sheet` instead, if there is one.

  The images of `charts` are inverted on dark pages, as those of `Figure`.
  """

  tiles: Sequence[Tile]
  sheet: Figure | None = None
  tile_width: int = 140  # Minimum, in CSS pixels.
  heading: str = ""
  charts: bool = False


@dataclass(frozen=True)
class Video:
  """An embedded video with the controls of the browser; Markdown shows the caption only."""

  data: bytes
  mime: str  # "video/mp4" or "video/webm".
  caption: str


Block = Text | KeyFigures | Table | Figure | Gallery | Video


@dataclass(frozen=True)
class Section:
  title: str
  blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
  title: str
  lead: Sequence[Block]
  sections: Sequence[Section] = field(default=())

  @property
  def figures(self) -> list[Figure]:
    """The figures that the Markdown format refers to."""
    found = []
    for block in [*self.lead, *(block for part in self.sections for block in part.blocks)]:
      if isinstance(block, Figure):
        found.append(block)
      elif isinstance(block, Gallery) and block.sheet is not None:
        found.append(block.sheet)
    return found


LIGHT_COLOURS = (
  "--page:#fff;--dark:#1c2530;--grey:#566270;--rule:#d5dbe1;"
  "--bad:#b34700;--warning:#fdf3ec;--link:#005a94"
)
DARK_COLOURS = (
  "--page:#14191f;--dark:#e4e9ee;--grey:#a3afbb;--rule:#37424d;"
  "--bad:#f0883e;--warning:#2c2119;--link:#79b8ff"
)
_PAGE_STYLE = f"""
:root{{color-scheme:light dark;{LIGHT_COLOURS}}}
@media (prefers-color-scheme:dark){{:root{{{DARK_COLOURS}}}
 img.chart{{filter:invert(.92) hue-rotate(180deg)}}}}
"""
_BODY_STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1.2rem 1rem 3rem;
 background:var(--page);color:var(--dark);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;
 overflow-wrap:anywhere}
@media print{body{max-width:none}h2{break-after:avoid}figure,li{break-inside:avoid}}
"""
# Of the blocks. Another page can show them below an element that has the colours.
BLOCK_STYLE = """
h1{font-size:1.6rem;line-height:1.25;margin:.4rem 0 1rem}
h2{font-size:1.2rem;margin:2.4rem 0 .7rem;padding-top:.8rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.4rem 0 0}
p{margin:.6rem 0;max-width:44rem}
p.warning{border-left:4px solid var(--bad);padding:.3rem .8rem;background:var(--warning)}
dl.values{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}
dl.values div{flex:1 1 9rem;border:1px solid var(--rule);border-radius:8px;padding:.6rem .9rem}
dl.values dt{color:var(--grey)}
dl.values dd{margin:0}
dd.value{font-size:1.9rem;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}
dd.note{color:var(--grey);font-size:.85rem}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--grey);padding-bottom:.3rem}
th,td{padding:.28rem .9rem .28rem 0;border-bottom:1px solid var(--rule);text-align:left;
 vertical-align:top;overflow-wrap:normal}
td.number,th.number{text-align:right;white-space:nowrap}
tbody th{font-weight:500;min-width:6rem;max-width:18rem;overflow-wrap:break-word}
tr.apart th,tr.apart td{border-top:2px solid var(--grey);font-style:italic;color:var(--grey)}
summary{cursor:pointer;padding:.3rem 0;color:var(--link)}
figure{margin:1rem 0;overflow-x:auto}
figure img{display:block;width:100%;height:auto}
figure>video{display:block;max-width:100%;max-height:80vh}
figcaption{color:var(--grey);font-size:.9rem;max-width:44rem}
ul.gallery{list-style:none;margin:1rem 0;padding:0;display:grid;gap:.8rem}
ul.gallery li{border:1px solid var(--rule);border-radius:8px;padding:.5rem;font-size:.88rem;
 line-height:1.35}
ul.gallery li.marked{border:3px dashed var(--bad);padding:calc(.5rem - 2px)}
ul.gallery li:not(.marked)+li.marked{grid-column-start:1}
ul.gallery .images{display:flex;gap:3px}
ul.gallery img{display:block;flex:1 1 0;min-width:0;width:100%;height:auto;border-radius:4px}
ul.gallery strong{display:block;margin-top:.4rem}
ul.gallery .line{display:block;color:var(--grey)}
@media (max-width:30rem){table{font-size:.76rem}th,td{padding-right:.4rem}tbody th{min-width:3rem}
 td.number,th.number{white-space:normal}}
"""
STYLE = _PAGE_STYLE + _BODY_STYLE + BLOCK_STYLE

CHART = ' class="chart"'


def to_html(document: Document) -> str:
  """Renders the document as one self-contained HTML page."""
  policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
  parts = [
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    f"<title>{_text(document.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
    f"<h1>{_text(document.title)}</h1>",
    to_fragment(document.lead),
  ]
  for section in document.sections:
    parts.append(f"<section>\n<h2>{_text(section.title)}</h2>")
    parts += [to_fragment(section.blocks), "</section>"]
  return "\n".join([*parts, "</main>\n</body>\n</html>\n"])


def page_content(page: str) -> str:
  """The content of a page of `to_html`, for a page with `BLOCK_STYLE`."""
  return page.partition("<main>")[2].rpartition("</main>")[0]


def to_fragment(blocks: Sequence[Block]) -> str:
  """Renders blocks as HTML for a page with `BLOCK_STYLE`."""
  return "\n".join(_html_block(block) for block in blocks)


def to_markdown(document: Document, figure_folder: str) -> str:
  """Renders the document as Markdown that refers to PNG files in `figure_folder`."""
  parts = [f"# {_escape(document.title)}"]
  parts += [_markdown_block(block, figure_folder) for block in document.lead]
  for section in document.sections:
    parts.append(f"## {_escape(section.title)}")
    parts += [_markdown_block(block, figure_folder) for block in section.blocks]
  return "\n\n".join(parts) + "\n"


def _html_block(block: Block) -> str:
  if isinstance(block, Text):
    kind = ' class="warning"' if block.warning else ""
    return f"<p{kind}>{_text(block.text)}</p>"
  if isinstance(block, KeyFigures):
    items = "\n".join(
      f'<div><dt>{_text(name)}</dt><dd class="value">{_text(value)}</dd>'
      f'<dd class="note">{_text(note)}</dd></div>'
      for name, value, note in block.values
    )
    return f'<dl class="values">\n{items}\n</dl>'
  if isinstance(block, Table):
    return _html_table(block)
  if isinstance(block, Figure):
    # Figures have 1.5 pixels per CSS pixel. On a phone, a figure scrolls rather than shrink until
    # its text is too small.
    natural = int.from_bytes(block.png[16:20], "big") / 1.5
    width = f' style="max-width:{natural:.0f}px;min-width:{0.65 * natural:.0f}px"'
    width += "" if block.dark or block.photograph else CHART
    image = _image(block.png, block.alt, width)
    if block.dark is not None:
      source = f'media="(prefers-color-scheme:dark)" srcset="{_data_url(block.dark)}"'
      image = f"<picture><source {source}>{image}</picture>"
    return f"<figure>{image}{_figcaption(block.caption)}</figure>"
  if isinstance(block, Video):
    data = base64.b64encode(block.data).decode("ascii")
    player = f'<video controls preload="metadata" src="data:{block.mime};base64,{data}"></video>'
    return f"<figure>{player}{_figcaption(block.caption)}</figure>"
  columns = f"repeat(auto-fill,minmax(min({block.tile_width}px,100%),1fr))"
  tiles = "\n".join(_html_tile(tile, CHART if block.charts else "") for tile in block.tiles)
  heading = f"<h3>{_text(block.heading)}</h3>\n" if block.heading else ""
  text = block.sheet.caption if block.sheet is not None else ""
  caption = f"<p>{_text(text)}</p>\n" if text else ""
  style = f"grid-template-columns:{columns}"
  return f'{heading}{caption}<ul class="gallery" style="{style}">\n{tiles}\n</ul>'


def _html_table(table: Table) -> str:
  number = [
    column > 0 and all(_is_number(row[column]) for row in table.rows)
    for column in range(len(table.header))
  ]
  kind = ['class="number"' if flag else "" for flag in number]
  head = "".join(
    f'<th scope="col" {kind[i]}>{_text(cell)}</th>' for i, cell in enumerate(table.header)
  )
  rows = []
  for index, row in enumerate(table.rows):
    cells = "".join(f"<td {kind[i]}>{_text(cell)}</td>" for i, cell in enumerate(row) if i)
    apart = table.separate_last_row and index == len(table.rows) - 1
    start = '<tr class="apart">' if apart else "<tr>"
    rows.append(f'{start}<th scope="row">{_text(row[0])}</th>{cells}</tr>')
  caption = (
    "" if table.collapsed or not table.caption else f"<caption>{_text(table.caption)}</caption>"
  )
  body = (
    f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(table.caption)}"><table>'
    f"{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n"
    + "\n".join(rows)
    + "\n</tbody></table></div>"
  )
  if not table.collapsed:
    return body
  return f"<details><summary>{_text(table.caption)}</summary>\n{body}\n</details>"


def _html_tile(tile: Tile, kind: str) -> str:
  images = "".join(_image(png, alt, kind) for png, alt in tile.images)
  lines = "".join(f'<span class="line">{_text(line)}</span>' for line in tile.lines)
  heading = f"<strong>{_text(tile.heading)}</strong>" if tile.heading else ""
  marked = ' class="marked"' if tile.marked else ""
  return f'<li{marked}><div class="images">{images}</div>{heading}{lines}</li>'


def _figcaption(caption: str) -> str:
  return f"<figcaption>{_text(caption)}</figcaption>" if caption else ""


def _image(image: bytes, alt: str, extra: str = "") -> str:
  return f'<img src="{_data_url(image)}" alt="{_text(alt)}"{extra}>'


def _data_url(image: bytes) -> str:
  kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
  return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _markdown_block(block: Block, figure_folder: str) -> str:
  if isinstance(block, Text):
    return f"{'> ' if block.warning else ''}{_escape(block.text)}"
  if isinstance(block, Video):
    return _escape(block.caption)
  if isinstance(block, KeyFigures):
    return "\n".join(f"- **{_escape(n)}: {_escape(v)}** {_escape(t)}" for n, v, t in block.values)
  if isinstance(block, Table):
    lines = [f"| {' | '.join(map(_escape, block.header))} |"]
    lines.append(f"|{' --- |' * len(block.header)}")
    lines += [f"| {' | '.join(map(_escape, row))} |" for row in block.rows]
    return "\n".join([*([f"{_escape(block.caption)}", ""] if block.caption else []), *lines])
  heading = ""
  figure: Figure | None
  if isinstance(block, Gallery):
    heading, figure = f"### {_escape(block.heading)}" if block.heading else "", block.sheet
  else:
    figure = block
  if figure is None:
    return heading
  caption = f"\n\n{_escape(figure.caption)}" if figure.caption else ""
  image = f"![{_escape(figure.alt)}]({figure_folder}/{figure.name}){caption}"
  return f"{heading}\n\n{image}" if heading else image


def _text(text: str) -> str:
  """Escapes text for HTML elements and quoted attributes; lone surrogates become visible."""
  readable = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
  return html.escape(readable.replace("\x00", "\\x00"), quote=True)


def _escape(text: str) -> str:
  """Escapes text for Markdown: one line, no markup, no cell border."""
  line = " ".join(str(text).encode("utf-8", "backslashreplace").decode("utf-8").split())
  return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", line)


def _is_number(text: str) -> bool:
  return re.fullmatch(r"[-+–]?[\d.,\s%–()-]*", text) is not None
