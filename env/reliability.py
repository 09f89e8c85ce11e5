"""What goes down and when: networks, sites, rigs. the spells of `env.events`."""

from __future__ import annotations

import torch
from torch import Tensor

from env.events import spells
from env.scenario import Scenario
from env.shocks import Stream, name_hashes
from env.state import Fleet


def rig_availability(scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int) -> Tensor:
    """True while a rig can work: bool [hours, B, R]; failures, repairs, reclaims, site outages."""
    e, worlds = scenario.economics, seeds.shape[0]
    count = fleet.gpu_count.expand(worlds, -1)
    one = torch.ones((), device=seeds.device)
    soft = spells(
        seeds,
        Stream.RIG_SOFT,
        fleet.index,
        count * (e.soft_failures_per_gpu_year / 8760),
        one * e.soft_repair_mean_h,
        hours,
    )
    hard = spells(
        seeds,
        Stream.RIG_HARD,
        fleet.index,
        count * (e.hard_failures_per_gpu_year / 8760),
        one * e.hard_repair_median_h,
        hours,
        e.hard_repair_sd,
    )
    reclaimed = spells(
        seeds,
        Stream.RIG_RECLAIM,
        fleet.index,
        (1 - fleet.owned.expand(worlds, -1)) * (e.reclaims_per_year / 8760),
        one * e.reclaim_mean_h,
        hours,
    )
    return ~(soft | hard | reclaimed | site_outages(scenario, fleet, seeds, hours))


def site_outages(scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int) -> Tensor:
    """True while a rig's site is dark: bool [hours, B, R]; common to all rigs of the site."""
    sites = spells(
        seeds,
        Stream.SITE_OUTAGE,
        name_hashes(scenario.site_names, seeds.device),
        scenario.site_outages_per_h,
        scenario.site_outage_mean_h,
        hours,
    )
    where = fleet.site.expand(seeds.shape[0], -1)
    return sites.gather(2, where.expand(hours, *where.shape))
