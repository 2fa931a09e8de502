"""What all pictures share: colours, pages without global state, checked inputs."""

import io
import os
from typing import Any, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alpamayo_jax.files import write_bytes
from alpamayo_jax.types import InputError
from alpamayo_jax.viz import text as text_lib

Color = tuple[float, float, float]  # red, green, blue in [0, 1]

DPI = 100
INK: Color = (0.13, 0.15, 0.19)
MUTED: Color = (0.42, 0.45, 0.50)
GRID: Color = (0.88, 0.89, 0.91)
HISTORY: Color = (0.35, 0.38, 0.44)
EGO: Color = (0.20, 0.24, 0.31)
# No sample colour is green, so that the recorded future is never mistaken for a sample; it also
# differs in width or dash, for eyes that do not tell green from orange.
RECORDED: Color = (0.05, 0.62, 0.32)
_SAMPLES: tuple[Color, ...] = (
    (0.90, 0.38, 0.00),
    (0.12, 0.47, 0.95),
    (0.80, 0.15, 0.55),
    (0.95, 0.72, 0.05),
    (0.49, 0.28, 0.80),
    (0.10, 0.75, 0.86),
    (0.78, 0.13, 0.13),
    (0.55, 0.36, 0.20),
)
MOST_NAMED = len(_SAMPLES)  # more samples than this share one legend entry


def sample_colors(count: int) -> list[Color]:
    """Distinguishable colours of `count` samples: a fixed list, then a colour map beyond it."""
    if count <= MOST_NAMED:
        return list(_SAMPLES[:count])
    ramp = matplotlib.colormaps["plasma"](np.linspace(0.0, 0.92, count))
    return [tuple(float(c) for c in rgba[:3]) for rgba in ramp]


class Page:
    """A white picture laid out in pixels from its upper left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose drawing area (without tick and axis labels) is this box."""
        bottom = self.height - y - height
        return self.figure.add_axes(
            (x / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def image(self, x: int, y: int, pixels: np.ndarray) -> None:
        """A uint8 [h, w, 3] image, pixel for pixel."""
        self.figure.figimage(pixels, x, self.height - y - len(pixels))

    def text(self, x: float, y: float, text: str, size: float, bold: bool = False) -> None:
        """One line whose upper left corner is (x, y)."""
        # By the baseline, so that a tall character does not push its line down.
        baseline = y + 0.8 * size * DPI / 72
        self.figure.text(
            x / self.width,
            1 - baseline / self.height,
            text,
            fontfamily=text_lib.FONT,
            fontsize=size,
            fontweight="bold" if bold else "normal",
            color=INK,
            va="baseline",
            parse_math=False,
        )

    def heading(self, margin: int, title: str, size: float) -> None:
        """A bold title at the top, cut where it is wider than the page within its margins."""
        title = text_lib.printable(" ".join(title.split()))
        title = text_lib.ellipsis(title, self.width - 2 * margin, size, DPI, bold=True)
        self.text(margin, 20, title, size, bold=True)

    def legend(self, x: float, y: float, handles: list[Any], per_row: int) -> None:
        """Legend rows of `LEGEND_ROW` pixels whose upper left corner is (x, y)."""
        self.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(x / self.width, 1 - y / self.height),
            ncol=per_row,
            frameon=False,
            fontsize=_LEGEND_FONT,
            labelcolor=INK,
            borderpad=0.0,
            borderaxespad=0.0,
            columnspacing=1.6,
        )

    def png(self, path: str | os.PathLike | None = None) -> bytes:
        """PNG bytes, the same for the same page; written to `path` where one is given."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        if path is not None:
            write_bytes(path, buffer.getvalue())
        return buffer.getvalue()


LEGEND_ROW = 26  # pixels
_LEGEND_FONT, _LEGEND_MARK = 12.0, 74  # points; pixels of a mark and the space after its label


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many legend entries fit beside each other into `width` pixels, at least 1."""
    widest = max((text_lib.width(label, _LEGEND_FONT, DPI) for label in labels), default=0.0)
    return max(1, min(len(labels), int(width / (widest + _LEGEND_MARK))))


def style_axes(axes: Axes, xlabel: str = "", ylabel: str = "") -> None:
    """Light grid, no box, labels in the shared ink."""
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(which="both", colors=MUTED, labelcolor=INK, labelsize=11)
    axes.set_xlabel(text_lib.printable(xlabel), color=INK, fontsize=12, parse_math=False)
    axes.set_ylabel(text_lib.printable(ylabel), color=INK, fontsize=12, parse_math=False)


def checked(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """`value` as a finite float64 array of `shape`, where None stands for any size but 0.

    The first None of a shape that begins with one may be 0: no samples, no boxes.

    Raises:
      InputError: names the value, what was found and what was expected.
    """
    array = np.asarray(value, np.float64)
    wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape)):
        raise InputError(f"picture: {name} must be {wanted}, got {list(array.shape)}")
    if 0 in array.shape[1:]:
        raise InputError(f"picture: {name} must be {wanted} and not empty, got {list(array.shape)}")
    if not np.isfinite(array).all():
        bad = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise InputError(f"picture: {name} has NaN or infinite values, first at {bad}")
    return array
