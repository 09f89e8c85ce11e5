"""What it costs to acquire a dollar of tokens on each network, and what it costs to move there.

    python benchmarks/economics.py             # the table of the README's assumptions section

One owned rig at a time stays on the network for the whole episode, in every owned rig of the fleet
for which that network is among the best: those whose cost over published yield is in the lower half
of the eligible rigs, counted alone so that the fleet does not dilute itself. Cost is the full cost
(energy, hosting, depreciation, fees, financing); the marks are accrual, unlock and liquidation.
"""

from __future__ import annotations

import argparse

import torch

from env.scenario import Scenario, build_scenario
from env.state import FULL
from env.world import World


def acquisition(scenario: Scenario, seeds: list[int], network: int) -> dict[str, float]:
    """Cost over value of one network at three marks; entry cost in hours of the rig's yield."""
    world = World.start(scenario, seeds)
    seen = world.observe()
    pairs = seen["pairs"]
    published = world.now.quotes.estimate[:, network]
    price = published[published > 0].median()  # where it has been launched
    gross = price * world.fleet.mass[0, :, network]
    fits = world.fleet.eligible[0, :, network] & (world.fleet.owned[0] > 0)
    ratio = torch.where(fits, world.fleet.nominal_usd_h[0] / gross, torch.inf)
    count = max(1, int(fits.sum()) // 2)
    suited = torch.argsort(ratio)[:count].tolist()
    entry_h = (pairs[:, :, network, 5] / (price * world.fleet.mass[:, :, network])).median(0).values
    total = dict.fromkeys(("cost", "accrual", "unlock", "liquidation"), 0.0)
    off = scenario.network_count
    for rig in suited:
        world = World.start(scenario, seeds, world.exogenous)
        world.observe()
        orders = torch.full((len(seeds), scenario.rig_count), off, dtype=torch.int64)
        orders[:, rig] = network + 1
        world.step(torch.where(world.state.assignment == orders - 1, 0, orders))
        while not world.done:
            world.step(torch.zeros_like(orders))
        book = {k: float(v[:, network].sum()) for k, v in world.ledger().items()}
        total["cost"] += sum(book[name] for name in FULL)
        total["accrual"] += book["gross_usd"]
        total["unlock"] += book["gross_usd"] - book["lockup_usd"]
        total["liquidation"] += book["gross_usd"] - book["lockup_usd"] - book["slippage_usd"]
    marks = {k: total["cost"] / max(v, 1e-9) for k, v in total.items() if k != "cost"}
    at_start = float(ratio[suited].median())
    return {"hour 0": at_start, **marks, "entry h": float(entry_h[suited].median())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fleet", default="mixed")
    parser.add_argument("--worlds", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scenario = build_scenario(arguments.fleet)
    seeds = list(range(arguments.worlds))
    print(
        "| network | class | at hour 0 | accrual | unlock | liquidation | entry, hours of yield |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    for k, network in enumerate(scenario.networks[:-1]):
        row = acquisition(scenario, seeds, k)
        marks = " | ".join(f"{row[m]:.0%}" for m in ("hour 0", "accrual", "unlock", "liquidation"))
        print(f"| {network.name} | {network.kind} | {marks} | {row['entry h']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
