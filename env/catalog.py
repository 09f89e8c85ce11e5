"""The catalogue: GPU models, sites, tokens, networks and fleets, typed and validated from YAML.

A network is one row of parameters for three orthogonal rules: allocation (who earns which share),
settlement (in what it is paid) and commitment (what it costs to be there). Values and their sources
live in `configs/catalog`; the formulas they feed live in `env/networks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from env.errors import InputError, NoSuchKeyError
from env.hardware import FleetSpec, GpuModel, RigGroup, Site
from env.parsing import (
    CONFIG_DIR,
    STRICT,
    NonNegative,
    Number,
    Positive,
    Share,
    parse,
    preset,
    read_yaml,
)

__all__ = [
    "CONFIG_DIR",
    "Commitment",
    "Demand",
    "Emission",
    "FleetSpec",
    "GpuModel",
    "Network",
    "NonNegative",
    "Number",
    "Positive",
    "RigGroup",
    "Risk",
    "Schedule",
    "Share",
    "Site",
    "Tier",
    "Token",
    "Work",
    "load_fleet",
    "load_gpus",
    "load_network",
    "load_networks",
    "load_sites",
    "load_tokens",
    "parse",
    "preset",
    "read_yaml",
]

OFF_NAME = "off"  # of the network on which rigs are switched off, which every world has


@dataclass(config=STRICT)
class Token:
    """A token's start price and the parameters of its simulated price and liquidity."""

    price_usd: Positive  # at the catalogue's date; in units of `quote` where that is set
    beta_btc: Number
    vol_annual: Positive  # of the idiosyncratic part
    drift_annual: Number  # log drift of the idiosyncratic part
    jumps_per_year: NonNegative
    jump_sd: NonNegative
    turnover_usd_day: Positive
    quote: str | None = None  # another token this one is priced in (a subnet's alpha in TAO)
    pool_quote: NonNegative = 0.0  # quote tokens in its constant-product pool; 0 = order book


@dataclass(config=STRICT)
class Schedule:
    """Tokens minted per day for the whole network as a function of the date.

    kind names a function of `env.networks.emission`; the other keys are its parameters.
    """

    kind: Literal["constant", "halving", "linear", "geometric", "baseline", "inflation"]
    tokens_per_day: NonNegative = 0.0  # on day 1; halving: before the first; constant: always
    decay_per_day: NonNegative = 0.0  # linear: tokens per day per day
    decay_per_hour: Share = 0.0  # geometric
    start_date: str | None = None  # linear, geometric: day 1 of the schedule
    issued: NonNegative = 0.0  # halving, inflation: supply at the catalogue's date
    cap: NonNegative = 0.0  # halving: maximal supply
    parameters: dict[str, Number] = field(default_factory=dict)  # halving, baseline, inflation


@dataclass(config=STRICT)
class Tier:
    """A sub-pool reserved for some GPU models."""

    share: Share  # of the network's pool
    gpus: tuple[str, ...]


@dataclass(config=STRICT)
class Emission:
    """Tokens shared among providers: a pool pro rata to work, or a tournament over slots."""

    schedule: Schedule
    provider_share: Share  # of the schedule's tokens that reaches GPU providers
    kind: Literal["pool", "tournament"] = "pool"
    tiers: tuple[Tier, ...] = ()  # at most two; empty = one pool
    cap_usd_per_work_h: NonNegative = 0.0  # pay per unit of work is capped at this; 0 = no cap
    wallet_free_rigs: NonNegative = 0.0  # anti-fleet rule: rigs above this count are discounted
    wallet_decay: NonNegative = 0.0  # exp(-decay * (rigs - free))
    wallet_share: Share = 0.0  # part of the pool to which the anti-fleet rule applies
    concentration: Positive = 1.0  # tournament: share goes as score ** concentration
    miner_slots: NonNegative = 0.0  # tournament: slots open to miners
    score_sd: NonNegative = 0.0  # tournament: log standard deviation of competitors' scores
    immunity_h: NonNegative = 0.0  # tournament
    registrations_per_h: NonNegative = 0.0  # tournament: each prunes the lowest slot


@dataclass(config=STRICT)
class Demand:
    """Customers who pay: leases of whole rigs, or metered requests spread over all suppliers."""

    kind: Literal["lease", "request"]
    price_per_work_h: Positive  # per unit of work and hour in use, in USD or tokens
    paid_in: Literal["usd", "usd_pegged", "token"] = "usd"  # usd_pegged: USD price paid in tokens
    outside_work: Positive = 100.0  # assumption: others' work units at hour 0, without an emission
    utilisation: Share | None = None  # of supply in use at hour 0; None = what the margin implies
    volatility: NonNegative = 0.3  # assumption: log sd of demand around its level
    take_rate: Share = 0.0
    lease_mean_h: Positive = 24.0  # assumption
    queue: Literal["auction", "fifo", "rotation"] = "auction"
    standby_tokens_per_rig_h: NonNegative = 0.0  # paid while available, leased or not
    break_penalty_h: NonNegative = 0.0  # hours of lease income lost by leaving before its end
    rent_elasticity: Number = 1.0  # price follows the GPU rent index to this power
    spread: Share = 0.0  # usd_pegged: lost in conversion
    twap_h: NonNegative = 1.0  # usd_pegged: window of the price oracle


@dataclass(config=STRICT)
class Commitment:
    """What it costs to be there, to enter and to leave."""

    provisioning_h: NonNegative = 0.1  # assumption: from the order to the first hour of work
    warmup_h: NonNegative = 0.0  # time constant of the score: share of full pay reached over time
    burn_tokens: NonNegative = 0.0  # least registration burn of a rig, in the token's quote token
    burn_max_tokens: NonNegative = 0.0  # the chain's maximum for one registration; 0 = none
    burn_step: Annotated[float, Field(ge=1)] = 1.0  # factor per registration
    burn_half_life_h: Positive = 1.2  # subtensor: 360 blocks of 12 s
    gas_usd: NonNegative = 0.0
    collateral_tokens_per_work: NonNegative = 0.0  # locked per unit of work
    collateral_tokens_per_rig: NonNegative = 0.0
    unbonding_h: NonNegative = 0.0
    vesting: tuple[tuple[Share, NonNegative, NonNegative], ...] = ()  # (share, delay h, linear h)
    slash_per_h: Share = 0.0  # of collateral per hour of downtime
    fault_multiple: NonNegative = 0.0  # of the hour's reward, lost per hour of downtime


@dataclass(config=STRICT)
class Risk:
    """Rates per year of what goes wrong with the network, and how its estimate errs.

    The defaults are for networks of your own: the catalogue's files say every number they rely on.
    """

    outages_per_year: NonNegative = 2.0  # assumption
    outage_mean_h: Positive = 6.0  # assumption
    rule_changes_per_year: NonNegative = 0.5  # assumption
    rule_change_sd: NonNegative = 0.25  # log standard deviation of emission per change, assumption
    deaths_per_year: NonNegative = 0.0
    unlaunched_share: Share = 0.0  # of worlds in which it starts only during the episode
    estimate_lag_h: NonNegative = 6.0  # assumption
    estimate_sd: NonNegative = 0.15  # assumption
    spikes_per_year: NonNegative = 12.0  # assumption
    stops_per_year: NonNegative = 6.0  # assumption


@dataclass(config=STRICT)
class Work:
    """How much work one GPU supplies, in units of the reference GPU.

    table: per model, a model that is missing is not eligible. The other kinds are the ratio to the
    reference GPU of FP16 throughput, memory bandwidth, VRAM, rent, hashrate; `rig`: one per rig.
    """

    kind: Literal["table", "fp16", "bandwidth", "vram", "rent", "hashrate", "rig"]
    table: dict[str, NonNegative] = field(default_factory=dict)


@dataclass(config=STRICT)
class Network:
    """One network: brand, three rules, eligibility and risks."""

    name: str
    kind: Literal["established", "emerging", "floor"]
    token: str | None  # None: paid in USD only
    reference_gpu: str
    work: Work
    target_margin: Annotated[float, Field(lt=1)]  # gross margin that holds outside supply level
    supply_cost: Positive = 1.0  # outside suppliers' cost over the reference (sunk: below 1)
    entry_per_day: NonNegative = 0.1  # assumption: kappa of the entry of outside work
    emission: Emission | None = None
    demand: Demand | None = None
    commitment: Commitment = field(default_factory=Commitment)
    risk: Risk = field(default_factory=Risk)
    min_vram_gb: NonNegative = 0.0
    min_gpus: Annotated[int, Field(ge=1)] = 1  # per rig
    gpus: tuple[str, ...] | None = None  # None: every model with enough VRAM
    load: Share = 1.0  # of board power drawn while working


def load_gpus() -> dict[str, GpuModel]:
    return parse(dict[str, GpuModel], preset("catalog", "gpus"), "catalog/gpus.yaml")


def load_sites() -> dict[str, Site]:
    return parse(dict[str, Site], preset("catalog", "sites"), "catalog/sites.yaml")


def load_tokens() -> dict[str, Token]:
    return parse(dict[str, Token], preset("catalog", "tokens"), "catalog/tokens.yaml")


def load_network(name: str) -> Network:
    """A network by its name in the catalogue, or by the path of a YAML file of your own."""
    path = CONFIG_DIR / "catalog" / "networks" / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise InputError("network", f"a path ending in .yaml or one of {known}", name)
    data = read_yaml(path)
    if not isinstance(data, Mapping):
        raise InputError(str(path), "a mapping", data)
    return parse(Network, {"name": path.stem, **data}, path.name)


def load_networks(selection: str | Mapping[str, Any]) -> tuple[Network, ...]:
    """The networks of a preset of `configs/network`, or of `{"names": [...]}`; *off* is implied."""
    data = preset("network", selection) if isinstance(selection, str) else selection
    if not isinstance(data, Mapping):
        raise InputError("network", "the name of a preset, or {'names': [...]}", data)
    if unknown := [key for key in data if key != "names"]:
        raise NoSuchKeyError(f"network.{unknown[0]}")
    names = data.get("names")
    if not isinstance(names, list | tuple) or not names or len(set(names)) != len(names):
        raise InputError("network.names", "a list of different network names, not empty", names)
    networks = tuple(load_network(str(name)) for name in names)
    if len({n.name for n in networks}) != len(networks):
        raise InputError("network.names", "networks of different names", names)
    if OFF_NAME in {n.name for n in networks}:
        raise InputError("network.names", f"none called {OFF_NAME}, which is there already", names)
    return networks


def load_fleet(selection: str | Mapping[str, Any]) -> FleetSpec:
    """A preset of `configs/fleet` by name, or the same keys as a mapping."""
    data = preset("fleet", selection) if isinstance(selection, str) else selection
    fleet = parse(FleetSpec, data, "fleet")
    if bool(fleet.rigs) == bool(fleet.random_rigs):
        raise InputError("fleet", "either `rigs` or `random_rigs` above 0", data)
    return fleet
