"""Where each rig was in each hour of one world: a picture of the subject above the tuned rule."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from agents.comparison import Comparison
from agents.drawing import BLUE, GREEN, INDIGO, LEMON, ORANGE, PINK, SILVER, SKY, YELLOW, svg
from agents.statistics import Floats
from env.fleet import rig_names

PALETTE = (BLUE, YELLOW, GREEN, PINK, SKY, ORANGE, LEMON, INDIGO)  # more cannot be told apart
NAMED_RIGS = 40  # above it a row is too thin for a name
Grid = NDArray[np.int64]


def allocation(compared: Comparison) -> str:
    """One row a rig, one colour a network, in the first world.

    The networks most used have a colour of their own, the others share one.
    """
    shown = dict.fromkeys((compared.subject[0], compared.opponent))
    grids = {n: compared.paths[n].assignment[:, 0].astype(np.int64) for n in shown}  # [T, R]
    rigs = rig_names(compared.scenario)
    colours, keys = _colours(compared.scenario.network_names, list(grids.values()))

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(grids), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, grid) in zip(rows, grids.items(), strict=True):
            _paint(axes, colours[grid.T], rigs)
            axes.set_title(f"{name}: {int(compared.paths[name].moved.sum())} moves")
        rows[-1].set_xlabel("day")
        figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), fontsize=8)

    return svg("allocation", 0.4 + len(grids) * min(max(1.6, 0.105 * len(rigs)), 5.0), draw)


def _colours(names: tuple[str, ...], grids: list[Grid]) -> tuple[Floats, list[Patch]]:
    """The colour of each network, [N, 3], and the legend."""
    counts = np.bincount(np.concatenate([g.ravel() for g in grids]), minlength=len(names))
    off = len(names) - 1
    used = [k for k in np.argsort(-counts) if counts[k] and k != off]
    main = used[: len(PALETTE)]
    table = np.tile(to_rgb(SILVER), (len(names), 1))
    table[main] = [to_rgb(c) for c in PALETTE[: len(main)]]
    table[off] = to_rgb("white")
    keys = [Patch(color=table[k], label=names[k]) for k in main]
    if len(used) > len(main):
        keys.append(Patch(color=SILVER, label="others"))
    if counts[off]:
        keys.append(Patch(facecolor="white", edgecolor=SILVER, label=names[off]))
    return table, keys


def _paint(axes: Axes, picture: Floats, rigs: tuple[str, ...]) -> None:
    """A picture [R, T, 3] of hours, with the rigs' names where there is room."""
    days = picture.shape[1] / 24.0
    extent = (0.0, days, float(len(rigs)), 0.0)
    axes.imshow(picture, aspect="auto", interpolation="nearest", extent=extent)
    axes.grid(False)
    if len(rigs) <= NAMED_RIGS:
        axes.set_yticks(np.arange(len(rigs)) + 0.5, rigs, fontsize=5.5)
        axes.tick_params(axis="y", length=0)
