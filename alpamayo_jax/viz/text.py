"""Text from anywhere, a model included, made fit to be drawn: known characters, measured lines."""

import functools

import matplotlib.font_manager
from matplotlib.backends.backend_agg import RendererAgg

FONT = "DejaVu Sans"  # comes with matplotlib, so that pictures are the same everywhere


def printable(text: str) -> str:
    """`text` with tabs as spaces and every character that cannot be drawn as U+FFFD."""
    known = _known_characters()
    return "".join(
        c if c == "\n" or (ord(c) in known and c.isprintable()) else " " if c == "\t" else "\ufffd"
        for c in text.replace("\r\n", "\n")
    )


def width(text: str, size: float, dpi: int, bold: bool = False) -> float:
    """Pixels of one line of `text` at `size` points; kerning, which only narrows, is left out."""
    return sum(_advance(c, size, dpi, bold) for c in text)


def ellipsis(text: str, limit: float, size: float, dpi: int, bold: bool = False) -> str:
    """`text`, or its beginning and an ellipsis where it is wider than `limit` pixels."""
    if width(text, size, dpi, bold) <= limit:
        return text
    limit -= width("…", size, dpi, bold)
    return text[: _fitting(text, limit, size, dpi, bold)].rstrip() + "…"


def wrap(text: str, limit: float, size: float, dpi: int) -> list[str]:
    """Lines no wider than `limit` pixels; newlines stay, a word that is wider by itself is cut."""
    lines, space = [], width(" ", size, dpi)
    for paragraph in text.split("\n"):
        line, used = "", 0.0
        for word in paragraph.split():
            wide = width(word, size, dpi)
            if line and used + space + wide <= limit:
                line, used = f"{line} {word}", used + space + wide
                continue
            if line:
                lines.append(line)
            while wide > limit and len(word) > 1:
                cut = max(1, _fitting(word, limit, size, dpi))
                lines.append(word[:cut])
                word = word[cut:]
                wide = width(word, size, dpi)
            line, used = word, wide
        if line:
            lines.append(line)
    return lines


def _fitting(text: str, limit: float, size: float, dpi: int, bold: bool = False) -> int:
    """How many leading characters fit into `limit` pixels."""
    used = 0.0
    for i, character in enumerate(text):
        used += _advance(character, size, dpi, bold)
        if used > limit:
            return i
    return len(text)


@functools.cache
def _advance(character: str, size: float, dpi: int, bold: bool) -> float:
    """Pixels from a character to the next; not proportional to the size, because of hinting."""
    properties = matplotlib.font_manager.FontProperties(
        family=FONT, size=size, weight="bold" if bold else "normal"
    )
    renderer = RendererAgg(8, 8, dpi)
    # Between two letters, because a space at the end of a line has no width.
    wide, bare = (
        renderer.get_text_width_height_descent(text, properties, ismath=False)[0]
        for text in (f"H{character}H", "HH")
    )
    return wide - bare


@functools.cache
def _known_characters() -> frozenset[int]:
    path = matplotlib.font_manager.findfont(FONT)
    return frozenset(matplotlib.font_manager.get_font(path).get_charmap())
