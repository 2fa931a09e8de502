"""A report as one HTML file: no scripts, no requests, pictures inside, light and dark."""

import base64
import html
import io
import os
import pathlib
from typing import Any, Mapping, Sequence

from PIL import Image

from alpamayo_jax.files import write_bytes
from alpamayo_jax.metrics.tables import format_value, html_table
from alpamayo_jax.types import InputError

# The browser itself is told to fetch nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
_CSS = """
:root { color-scheme: light dark; --ink: #20262f; --muted: #5c6470; --page: #ffffff;
        --panel: #f4f5f7; --line: #d9dce1; --accent: #1f6fd6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --muted: #a3abb8; --page: #15181d; --panel: #1f242b; --line: #363d47;
          --accent: #6aa9ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 32px 24px 64px; background: var(--page);
       color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 21px; margin: 44px 0 10px; padding-bottom: 6px;
     border-bottom: 1px solid var(--line); }
p { margin: 10px 0; max-width: 78ch; overflow-wrap: anywhere; }
.subtitle, figcaption, .caption { color: var(--muted); font-size: 14.5px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 12px;
           margin: 22px 0 8px; padding: 0; }
.figures div { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
               padding: 12px 14px; }
.figures dt { color: var(--muted); font-size: 14px; overflow-wrap: anywhere; }
.figures dd { margin: 2px 0 0; font-size: 23px; font-weight: 600; overflow-wrap: anywhere;
              font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; font-size: 15px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; }
th { color: var(--muted); font-weight: 600; }
.number { text-align: right; padding-left: 14px; font-variant-numeric: tabular-nums; }
figure { margin: 18px 0; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px;
             border: 1px solid var(--line); }
figcaption { margin-top: 6px; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 20px; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
      padding: 12px 14px; overflow-x: auto;
      font: 14px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
nav { margin: 14px 0 0; font-size: 15px; }
nav a { color: var(--accent); margin-right: 18px; text-decoration: none; }
@media (max-width: 520px) { .row { grid-template-columns: 1fr; } }
"""


class Report:
    """Collects sections in order and writes them as one page; every method returns the report.

    Report("Drive").figures({"minADE_6": 1.2}).section("Results", "...").table(rows).write(path)
    """

    def __init__(self, title: str, subtitle: str = ""):
        self._title, self._subtitle = title, subtitle
        self._figures: list[tuple[str, str]] = []
        self._sections: list[str] = []
        self._body: list[str] = []

    def figures(self, values: Mapping[str, Any], digits: int = 3) -> "Report":
        """Adds key figures, shown large at the top: name -> number or text."""
        self._figures += [(name, format_value(value, digits)) for name, value in values.items()]
        return self

    def section(self, heading: str, text: str = "") -> "Report":
        """Begins a section; it is linked at the top of the page."""
        self._sections.append(heading)
        self._body.append(f'<h2 id="s{len(self._sections)}">{html.escape(heading)}</h2>')
        return self.text(text) if text else self

    def text(self, text: str) -> "Report":
        """Adds paragraphs, separated in `text` by empty lines."""
        for paragraph in text.replace("\r\n", "\n").split("\n\n"):
            if paragraph.strip():
                lines = html.escape(paragraph.strip()).replace("\n", "<br>")
                self._body.append(f"<p>{lines}</p>")
        return self

    def code(self, text: str) -> "Report":
        """Adds text as it is, in fixed width: a command, a configuration, a text table."""
        self._body.append(f"<pre>{html.escape(text)}</pre>")
        return self

    def table(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[str] | None = None,
        digits: int = 3,
        caption: str = "",
    ) -> "Report":
        """Adds a table of rows (column name -> value); numbers are aligned to the right.

        A table of no rows says so, so that a missing result is not mistaken for a layout fault.
        """
        if rows:
            self._body.append(f'<div class="scroll">{html_table(rows, columns, digits)}</div>')
        else:
            self._body.append('<p class="caption">No rows.</p>')
        if caption:
            self._body.append(f'<p class="caption">{html.escape(caption)}</p>')
        return self

    def picture(
        self, image: bytes | str | os.PathLike, caption: str = "", jpeg_quality: int | None = None
    ) -> "Report":
        """Adds a picture.

        Args:
          image: PNG or JPEG, its bytes or its path.
          caption: shown below, and the text for those who cannot see the picture.
          jpeg_quality: 1 to 95 re-encodes as JPEG, for photographs of which there are many.

        Raises:
          InputError: not a whole PNG or JPEG; the message names the file.
        """
        self._body.append(_figure(image, caption, jpeg_quality))
        return self

    def pictures(
        self,
        images: Sequence[tuple[bytes | str | os.PathLike, str]],
        jpeg_quality: int | None = None,
    ) -> "Report":
        """Adds (image, caption) pairs beside each other, as many in a row as there is room for."""
        inner = "\n".join(_figure(image, caption, jpeg_quality) for image, caption in images)
        self._body.append(f'<div class="row">{inner}</div>')
        return self

    def html(self) -> str:
        """The whole page."""
        title = html.escape(self._title)
        head = [f"<h1>{title}</h1>"]
        if self._subtitle:
            head.append(f'<p class="subtitle">{html.escape(self._subtitle)}</p>')
        if self._figures:
            cells = "".join(
                f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
                for name, value in self._figures
            )
            head.append(f'<dl class="figures">{cells}</dl>')
        if len(self._sections) > 1:
            links = "".join(
                f'<a href="#s{i + 1}">{html.escape(name)}</a>'
                for i, name in enumerate(self._sections)
            )
            head.append(f"<nav>{links}</nav>")
        body = "\n".join(head + self._body)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_CSS}</style>\n</head>\n"
            f"<body>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike) -> pathlib.Path:
        """Writes the page whole or not at all; returns its path."""
        return write_bytes(path, self.html().encode("utf-8", errors="replace"))


def _figure(
    image: bytes | str | os.PathLike, caption: str, jpeg_quality: int | None
) -> str:
    name = f"picture {caption!r}"
    if not isinstance(image, bytes):
        name, path = f"picture {os.fspath(image)!r}", pathlib.Path(image)
        if not path.is_file():
            raise InputError(f"report: {name} is not a file")
        image = path.read_bytes()
    kind, (width, height), image = _checked_image(name, image, jpeg_quality)
    data = base64.b64encode(image).decode("ascii")
    note = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img src="data:{_TYPES[kind]};base64,{data}" width="{width}" height="{height}" '
        f'alt="{html.escape(caption)}">{note}</figure>'
    )


def _checked_image(
    name: str, data: bytes, jpeg_quality: int | None
) -> tuple[str, tuple[int, int], bytes]:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_TYPES)) as image:
            image.load()
            kind = image.format
            if jpeg_quality is None:
                return kind, image.size, data
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=jpeg_quality, optimize=True)
            return "JPEG", image.size, buffer.getvalue()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"report: {name} is not a whole PNG or JPEG ({error})") from error
