"""What goes down and when: networks, sites, rigs. The spells of `env.events`."""

from __future__ import annotations

import torch
from torch import Tensor

from env.events import spells
from env.scenario import Scenario
from env.shocks import Stream, name_hashes, uniform, words
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
    reclaimed = reclaims(scenario, fleet, seeds, hours)
    return ~(soft | hard | reclaimed | site_outages(scenario, fleet, seeds, hours))


def reclaims(scenario: Scenario, fleet: Fleet, seeds: Tensor, hours: int) -> Tensor:
    """True while a rented rig is taken back by its owner: bool [hours, B, R].

    From a recorded availability: each site gets a zone and a first hour from the seed (the record
    begins anew at its end), each rig a rank u in (0, 1); it is held while more than u of the hour
    can be had. So rigs of a site lose their machines together, in one order.
    """
    e, history = scenario.economics, scenario.market.history
    rented = 1 - fleet.owned.expand(len(seeds), -1)
    if history is None or not len(history.held):
        mean_h = torch.full((), e.reclaim_mean_h, device=seeds.device)
        rate = rented * (e.reclaims_per_year / 8760)
        return spells(seeds, Stream.RIG_RECLAIM, fleet.index, rate, mean_h, hours)
    length, zones = history.held.shape
    sites = name_hashes(scenario.site_names, seeds.device)
    w = words(seeds[:, None], Stream.TRACE, sites, torch.zeros_like(sites))  # [B, S]
    zone, first = (uniform(w[0]) * zones).long(), (uniform(w[1]) * length).long()
    hour = torch.arange(hours, device=seeds.device)[:, None, None]
    share = history.held[(first + hour) % length, zone]  # [hours, B, S]
    rank = uniform(
        words(seeds[:, None], Stream.TRACE, fleet.index, torch.ones_like(fleet.index))[0]
    )
    site = fleet.site.expand(len(seeds), -1)
    return (share.gather(2, site.expand(hours, *site.shape)) <= rank) & (rented > 0)


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
