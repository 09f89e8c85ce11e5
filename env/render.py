"""What a person sees of one world: a table (ansi) and a picture of the allocation (rgb_array)."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from env.fleet import rig_names
from env.world import World


def table(world: World) -> str:
    """Networks and rigs of the first world as text, in physical units."""
    scenario, state = world.scenario, world.state
    q, names = world.now.quotes, scenario.network_names
    placed = np.bincount(state.assignment[0].cpu().numpy(), minlength=len(names))
    profit = world.ledger()["net_usd"][0]
    lines = [
        f"hour {world.hour} of {scenario.horizon_h}, seed {int(world.seeds[0])}, "
        f"profit so far {float(profit.sum()):,.2f} USD",
        "",
        f"{'network':<22}{'rigs':>5}{'estimate USD/work-h':>21}{'token USD':>14}"
        f"{'profit USD':>13}  state",
    ]
    for k, name in enumerate(names):
        lines.append(
            f"{name:<22}{placed[k]:>5}{float(q.estimate[0, k]):>21.4f}"
            f"{float(q.token_usd[0, k]):>14.5g}{float(profit[k]):>13.2f}  {_standing(world, k)}"
        )
    lines += ["", f"{'rig':<32}{'network':<22}{'last hour USD':>14}{'tenure h':>10}  state"]
    for r, rig in enumerate(rig_names(scenario)):
        profit_h, tenure = float(state.last_net_usd[0, r]), float(state.tenure_h[0, r])
        lines.append(
            f"{rig:<32}{names[int(state.assignment[0, r])]:<22}"
            f"{profit_h:>14.3f}{tenure:>10.0f}  {_doing(world, r)}"
        )
    return "\n".join(lines)


def _standing(world: World, network: int) -> str:
    q = world.now.quotes
    if q.open[0, network] == 0:
        return "closed"
    return "up" if q.up[0, network] > 0 else "down"


def _doing(world: World, rig: int) -> str:
    """What a rig of the first world does in the hour to come, if it stays where it is."""
    state, network = world.state, int(world.state.assignment[0, rig])
    if not world.now.rig_up[0, rig]:
        return "down"
    if network == world.scenario.network_count - 1:
        return "switched off"
    if state.provisioning_h[0, rig] > 0:
        return f"provisioning, {float(state.provisioning_h[0, rig]):.1f} h left"
    if (standing := _standing(world, network)) != "up":
        return f"idle, the network is {standing}"
    if state.lease_h[0, rig] > 0:
        return f"leased, {float(state.lease_h[0, rig]):.0f} h left"
    if world.scenario.rules.lease[network] == 0:
        return "working"
    pool = world.scenario.networks[network].emission is not None
    return "working in the pool, without a lease" if pool else "waiting for a lease"


def picture(world: World, history: np.ndarray) -> np.ndarray:
    """The allocation so far: one row a rig, one column an hour, one colour a network.

    history int64 [hours, R] -> uint8 [height, width, 3].
    """
    names, rigs = world.scenario.network_names, rig_names(world.scenario)
    colours = colormaps["tab20"](np.arange(len(names)) % 20)[:, :3]
    colours[-1] = (0.87, 0.87, 0.87)  # off
    figure = Figure(figsize=(11, max(3.5, 0.16 * len(rigs) + 1.2)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        colours[history.T],
        aspect="auto",
        interpolation="nearest",
        extent=(0, max(len(history) - 1, 1), len(rigs), 0),
    )
    axes.set_xlabel("hour")
    if len(rigs) <= 64:
        axes.set_yticks(np.arange(len(rigs)) + 0.5, rigs, fontsize=6)
    profit = float(world.ledger()["net_usd"][0].sum())
    axes.set_title(
        f"where each rig works; profit so far {profit:,.0f} USD", fontsize=10, loc="left"
    )
    used = [k for k in range(len(names)) if (history == k).any()]
    axes.legend(
        handles=[Patch(color=colours[k], label=names[k]) for k in used],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        fontsize=7,
        frameon=False,
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
