"""Pictures put together: panels below each other as a strip, or beside each other and moving."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from skelfew.draw.stage import PALETTES, Palette
from skelfew.io.writing import writing

_PAPER, _INK, _PALE = (255, 255, 255), (30, 30, 34), (118, 118, 124)
_EDGE, _GAP, _LINE = 12, 6, 22  # pixels: around the sheet, between pictures, a line of text
_TITLE, _TEXT, _SMALL = 17, 13, 12
_PALETTE_SAMPLES, _GIF_COLOURS = 6, 255


@dataclass(frozen=True)
class Panel:
    """Pictures of the same moments in one manner, a picture a moment, all of one size."""

    label: str
    pictures: Sequence[Image.Image]


@dataclass(frozen=True)
class Heading:
    """Title and notes above the pictures; the palettes of the bodies make the legend."""

    title: str
    text: str = ""
    palettes: Sequence[Palette] = field(default=PALETTES[:1])


def strip(panels: Sequence[Panel], captions: Sequence[str], heading: Heading) -> Image.Image:
    """Return one sheet: a row a panel, a column a moment, a caption below each column."""
    column = max(panel.pictures[0].width for panel in panels)
    rows = [panel.pictures[0].height + _LINE for panel in panels]
    count = len(captions)
    top = _EDGE + _heading_height(heading)
    size = (count * (column + _GAP) - _GAP, top + sum(rows) + _LINE)
    sheet, pen = _sheet(size[0], size[1] + _EDGE, heading)
    for panel, height in zip(panels, rows, strict=True):
        pen.text((_EDGE, top + 4), panel.label, fill=_PALE, font=_font(_SMALL))
        for i, picture in enumerate(panel.pictures):
            left = _EDGE + i * (column + _GAP) + (column - picture.width) // 2
            sheet.paste(picture, (left, top + _LINE))
        top += height
    for i, caption in enumerate(captions):
        middle = _EDGE + i * (column + _GAP) + column / 2
        pen.text((middle, top + 4), caption, fill=_PALE, font=_font(_SMALL), anchor="ma")
    return sheet


def animation(
    panels: Sequence[Panel], captions: Sequence[str], heading: Heading
) -> list[Image.Image]:
    """Return a sheet a moment with the panels beside each other."""
    widths = [panel.pictures[0].width for panel in panels]
    tallest = max(panel.pictures[0].height for panel in panels)
    top = _EDGE + _heading_height(heading)
    height = top + _LINE + tallest + _LINE + _EDGE
    base, pen = _sheet(sum(widths) + _GAP * (len(widths) - 1), height, heading)
    lefts = [_EDGE + sum(widths[:i]) + _GAP * i for i in range(len(widths))]
    for panel, left in zip(panels, lefts, strict=True):
        pen.text((left, top + 4), panel.label, fill=_PALE, font=_font(_SMALL))
    sheets = []
    for i, caption in enumerate(captions):
        sheet = base.copy()
        for panel, left in zip(panels, lefts, strict=True):
            picture = panel.pictures[i]
            sheet.paste(picture, (left, top + _LINE + (tallest - picture.height) // 2))
        place = (_EDGE, top + _LINE + tallest + 4)
        ImageDraw.Draw(sheet).text(place, caption, fill=_PALE, font=_font(_SMALL))
        sheets.append(sheet)
    return sheets


def save_animation(sheets: Sequence[Image.Image], path: Path, seconds: float) -> None:
    """Write sheets as a GIF that repeats, each shown for ``seconds`` (rounded to 0.01)."""
    chosen = sheets[:: max(len(sheets) // _PALETTE_SAMPLES, 1)]
    montage = Image.new("RGB", (chosen[0].width, chosen[0].height * len(chosen)))
    for i, sheet in enumerate(chosen):
        montage.paste(sheet, (0, i * sheet.height))
    palette = montage.quantize(_GIF_COLOURS)  # one for all, or colours flicker
    still = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    with writing(path) as file:
        still[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=still[1:],
            duration=max(round(seconds * 100), 2) * 10,
            loop=0,
        )


def _sheet(width: int, height: int, heading: Heading) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return a sheet of at least that width (without the edges), with its heading."""
    legend = _legend(heading.palettes)
    needed = max(_font(_TITLE).getlength(heading.title), _font(_TEXT).getlength(heading.text))
    if legend is not None:
        needed += 2 * _GAP + legend.width
    sheet = Image.new("RGB", (round(max(width, needed)) + 2 * _EDGE, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_EDGE, _EDGE), heading.title, fill=_INK, font=_font(_TITLE))
    pen.text((_EDGE, _EDGE + _LINE), heading.text, fill=_PALE, font=_font(_TEXT))
    if legend is not None:
        sheet.paste(legend, (sheet.width - _EDGE - legend.width, _EDGE))
    return sheet, pen


def _heading_height(heading: Heading) -> int:
    return _LINE * max(1 + bool(heading.text), len(heading.palettes)) + _GAP


def _legend(palettes: Sequence[Palette]) -> Image.Image | None:
    if not palettes:
        return None
    font = _font(_SMALL)
    several = len(palettes) > 1
    picture = Image.new("RGB", (190 if several else 120, _LINE * len(palettes)), _PAPER)
    pen = ImageDraw.Draw(picture)
    for row, palette in enumerate(palettes):
        middle, left = row * _LINE + 10, picture.width
        for name, colour in (("right", palette.right), ("left", palette.left)):
            left -= round(font.getlength(name))
            pen.text((left, middle), name, fill=_PALE, font=font, anchor="lm")
            pen.line((left - 22, middle, left - 6, middle), fill=colour, width=5)
            left -= 34
        if several:
            pen.text((left, middle), f"body {row + 1}", fill=_PALE, font=font, anchor="rm")
    return picture


def _font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    return ImageFont.load_default(size)
