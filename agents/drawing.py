"""How the report's pictures are drawn: SVG text that stands for itself and needs no script.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind readers tell
apart.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY, LEMON, INDIGO = "#E69F00", "#56B4E9", "#F0E442", "#4B2E83"
INK, GREY, SILVER, PALE = "#222222", "#7A7A7A", "#BDBDBD", "#E4E4E4"
ABOVE: dict[str, Any] = {  # where a legend stands: over the axes, in one line
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "ncols": 9,
    "fontsize": 7.5,
    "columnspacing": 1.4,
    "handlelength": 1.6,
}
WIDTH = 10.6  # inches, of every figure
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a name may have a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EEEEEE",
    "legend.frameon": False,
}


def svg(name: str, height: float, draw: Callable[[Figure], None]) -> str:
    """A figure as an `<svg>` element; the same data give the same text."""
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = file.getvalue()
    drawn = text[text.index("<svg") :]
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening, drawn, count=1)


def _opening(found: re.Match[str]) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" viewBox="{found[1]}">'
    )


def bars(
    name: str, rows: Mapping[str, Mapping[str, float]], hues: Mapping[str, str], title: str
) -> str:
    """Stacked horizontal bars, a row for each policy; what is negative goes left of zero."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        left, right = np.zeros(len(rows)), np.zeros(len(rows))
        for part, colour in hues.items():
            values = np.array([row[part] for row in rows.values()])
            start = np.where(values >= 0, right, left)
            axes.barh(range(len(rows)), values, left=start, color=colour, label=part, height=0.72)
            right, left = right + values.clip(min=0), left + values.clip(max=0)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.axvline(0.0, color="#999999", lw=0.8)
        axes.set_title(title, pad=24)
        axes.grid(False, axis="y")
        axes.legend(**ABOVE)

    return svg(name, 0.9 + 0.3 * len(rows), draw)


def name_ends(axes: Axes, ends: Mapping[str, float], hues: Mapping[str, str]) -> None:
    """Names beside the ends of lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    step = 0.052 * (high - low)
    ranked = sorted(ends.items(), key=lambda item: item[1])
    for (name, _), y in zip(ranked, apart([value for _, value in ranked], step), strict=True):
        axes.annotate(
            name,
            (1.0, (y - low) / (high - low)),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=hues[name],
            va="center",
            fontsize=8,
            annotation_clip=False,
        )


def apart(values: list[float], step: float) -> list[float]:
    """The nearest values, by least squares, that keep `step` between each and the next.

    values ascend. Pooling of adjacent violators (Barlow et al., 1972) on values[k] - k step.
    """
    pools: list[tuple[float, int]] = []  # mean and size
    for k, value in enumerate(values):
        mean, size = value - k * step, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, size = (mean * size + other * more) / (size + more), size + more
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    return [base + k * step for k, base in enumerate(level)]
