"""Colours of figures and annotations, apart from Matplotlib, whose import takes long.

They are those of Okabe & Ito ("Color universal design", 2008), distinguishable with colour
blindness; a line style, sign or word repeats the information of every colour.
"""

DARK, GREY, LIGHT_GREY = "#1c2530", "#5a6673", "#d5dbe1"
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = (
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#e69f00",
)
HIGHLIGHT = "#f3e3b8"  # Shade of intervals.
# Colours on a dark page, where the others are legible as they are.
ON_DARK = {
  "#ffffff": "#14191f",  # The background of `document.STYLE`.
  DARK: "#e4e9ee",
  GREY: "#a3afbb",
  LIGHT_GREY: "#37424d",
  HIGHLIGHT: "#51451d",
  BLUE: "#4ba3dc",
}
