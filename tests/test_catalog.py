"""The catalogue: every value has its source, everything loads, wrong input gives one clear line."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from env import catalog
from env.catalog import CONFIG_DIR
from env.errors import InputError
from env.networks import emission
from env.rules import Economics, Rules, build_rules, work_of
from env.scenario import build_scenario

FILES = sorted((CONFIG_DIR / "catalog").rglob("*.yaml"))
NETWORKS = catalog.load_networks("default")
GPUS, SITES, TOKENS = catalog.load_gpus(), catalog.load_sites(), catalog.load_tokens()
NUMBER = re.compile(r"(?<![\w.])[-+]?\.?\d")
SMALL = {
    "kind": "established",
    "token": "AKT",
    "reference_gpu": "rtx_4090",
    "work": {"kind": "fp16"},
    "target_margin": 0.35,
    "demand": {"kind": "lease", "price_per_work_h": 0.35},
}


def rules() -> Rules:
    economics = catalog.parse(Economics, catalog.preset("catalog", "economics"), "economics.yaml")
    return build_rules(NETWORKS, TOKENS, GPUS, SITES, economics, torch.device("cpu"))


def token_usd(name: str | None) -> float:
    token = TOKENS[name or "USD"]
    return token.price_usd * (TOKENS[token.quote].price_usd if token.quote else 1.0)


def emission_usd_h(network: catalog.Network) -> float:
    """Value of what providers are minted in the first hour of the catalogue's date."""
    if network.emission is None:
        return 0.0
    tokens = emission.tokens_per_hour(network.emission.schedule, np.zeros(1))[0]
    return float(tokens) * network.emission.provider_share * token_usd(network.token)


def entry_cost_h(network: catalog.Network, rule: dict[str, float]) -> float:
    """Entry cost in hours of the yield of a rig with one reference GPU at the target margin.

    Provisioning, warm-up of the pool's part, burn and gas, capital locked while unbonding.
    """
    work = work_of(network, network.reference_gpu, GPUS)
    pay = rule["reference_cost"] * network.supply_cost / (1 - network.target_margin) * work
    c = network.commitment
    fees = rule["utilisation"] * rule["fee"] * work if network.emission else pay
    quote = TOKENS[network.token or "USD"].quote
    burn = c.burn_tokens * token_usd(quote or network.token)
    locked = c.collateral_tokens_per_work * work + c.collateral_tokens_per_rig
    capital = locked * token_usd(network.token) * 0.12 / 8760 * c.unbonding_h
    return c.provisioning_h + c.warmup_h * (1 - fees / pay) + (burn + c.gas_usd + capital) / pay


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_number_names_its_source(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        value, _, comment = line.partition("#")
        value = value.partition(":")[2] if ":" in value else value
        if NUMBER.search(value):
            assert len(comment.strip()) > 3, f"{path.name}:{number}: {line}"


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent.name == "networks"], ids=lambda path: path.stem
)
def test_no_number_of_a_network_comes_from_the_code_alone(path: Path) -> None:
    """A default that counts is said in the file, with its source; 0 and 1 change nothing."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    network = catalog.load_network(path.stem)
    idle = {
        "burn_half_life_h": network.commitment.burn_step == 1.0,
        "outside_work": network.emission is not None,
        "lease_mean_h": network.demand is None or network.demand.kind != "lease",
    }
    parts = {k: getattr(network, k) for k in ("emission", "demand", "commitment", "risk")}
    for name, part in {"network": network, **parts}.items():
        said = data if part is network else data.get(name, {})
        for key in () if part is None else (f.name for f in fields(part)):
            value = getattr(part, key)
            counts = isinstance(value, float) and value not in (0.0, 1.0)
            assert key in said or idle.get(key) or not counts, (name, key, value)


def test_seventeen_networks_and_the_floor_load_with_known_references() -> None:
    assert len(NETWORKS) == 18
    assert len(GPUS) >= 12
    assert len(SITES) >= 4
    assert {n.name for n in catalog.load_networks("core")} < {n.name for n in NETWORKS}
    kinds = [n.kind for n in NETWORKS]
    assert kinds.count("established") == 9
    assert kinds.count("emerging") == 7
    for network in NETWORKS:
        assert network.token is None or network.token in TOKENS
        named = {network.reference_gpu, *network.work.table, *(network.gpus or ())}
        tiers = network.emission.tiers if network.emission else ()
        named |= {gpu for tier in tiers for gpu in tier.gpus}
        assert named <= set(GPUS), network.name
        assert work_of(network, network.reference_gpu, GPUS) > 0
    for token in TOKENS.values():
        assert token.quote is None or TOKENS[token.quote].quote is None


def test_every_file_of_a_network_is_in_the_extended_preset_and_two_are_not_in_the_default() -> None:
    files = {path.stem for path in (CONFIG_DIR / "catalog" / "networks").glob("*.yaml")}
    extended = {n.name for n in catalog.load_networks("extended")}
    assert files == extended
    assert extended - {n.name for n in NETWORKS} == {"hyperbolic", "nodexo"}


def test_every_gpu_can_earn_on_several_networks() -> None:
    for gpu in GPUS:
        assert sum(work_of(n, gpu, GPUS) > 0 for n in NETWORKS) >= 4, gpu


def test_use_of_supply_and_size_of_emerging_pools_are_plausible() -> None:
    built = rules()
    thin = 0
    for k, network in enumerate(NETWORKS):
        used = float(built.utilisation[k])
        if network.demand is not None and network.emission is None:
            assert 0.3 <= used <= 0.95, network.name
        need = float(built.reference_cost[k]) / (1 - network.target_margin)
        value = emission_usd_h(network)
        if value:
            fees = used * float(built.fee[k])
            assert fees < 0.9 * need, network.name
            reference = work_of(network, network.reference_gpu, GPUS)
            pool = value / (need - fees) / reference
            if network.kind == "emerging":
                assert 5 <= pool <= 66, (network.name, pool)
                thin += network.target_margin >= 0.88
    assert thin >= 2


def test_entry_costs_run_from_under_an_hour_to_over_two_days_of_yield() -> None:
    built = rules()
    names = ("reference_cost", "utilisation", "fee")
    hours = {
        network.name: entry_cost_h(
            network, {name: float(getattr(built, name)[k]) for name in names}
        )
        for k, network in enumerate(NETWORKS)
    }
    assert min(hours.values()) < 1, hours
    assert sum(value > 48 for value in hours.values()) >= 2, hours
    assert sum(2 < value < 48 for value in hours.values()) >= 6, hours


def test_schedules_are_finite_and_never_negative_all_year() -> None:
    hours = np.arange(-336, 366 * 24 + 1500, 7)
    for network in NETWORKS:
        if network.emission is not None:
            minted = emission.tokens_per_hour(network.emission.schedule, hours)
            assert minted.shape == hours.shape
            assert np.isfinite(minted).all()
            assert (minted > 0).all(), network.name


def test_a_subnet_near_half_its_cap_halves_within_the_year() -> None:
    for name in ("bittensor_compute", "bittensor_serverless"):
        network = catalog.load_network(name)
        assert network.emission is not None
        minted = emission.tokens_per_hour(network.emission.schedule, np.arange(366 * 24))
        assert sorted(set(minted / minted[0])) == [0.5, 1.0]


def network_error(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        catalog.load_networks({"names": [str(path)]})
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"colour": "blue"}, ("mine.yaml: colour: no such key",)),
        ({"target_margin": 1.5}, ("mine.yaml: target_margin", "1.5")),
        ({"kind": "famous"}, ("mine.yaml: kind", "'famous'")),
        ({"work": {"kind": "speed"}}, ("mine.yaml: work.kind", "'speed'")),
        ({"demand": {"kind": "lease", "price_per_work_h": -1}}, ("demand.price_per_work_h", "-1")),
        ({"demand": {"kind": "lease", "price_per_work_h": "cheap"}}, ("price_per_work_h", "cheap")),
        ({"commitment": {"burn": 1}}, ("mine.yaml: commitment.burn: no such key",)),
        ({"work": {}}, ("mine.yaml: work.kind: expected a value, got None",)),
    ],
)
def test_a_wrong_network_is_one_line_that_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    message = network_error(tmp_path, **changes)
    assert all(name in message for name in names), message


def test_a_wrong_gpu_is_one_line_that_names_the_model_and_key() -> None:
    data = catalog.preset("catalog", "gpus")
    data["t4"]["board_power_w"] = -70
    with pytest.raises(InputError, match=r"^gpus\.yaml: t4\.board_power_w: .*-70$"):
        catalog.parse(dict[str, catalog.GpuModel], data, "gpus.yaml")
    data["t4"] = {"board_power_w": 70}
    with pytest.raises(InputError, match=r"^gpus\.yaml: t4\.vram_gb"):
        catalog.parse(dict[str, catalog.GpuModel], data, "gpus.yaml")


def test_a_tariff_needs_a_value_for_each_hour() -> None:
    data = catalog.preset("catalog", "sites")
    data["quebec_dc"]["tariff_usd_kwh"] = [0.05] * 23
    with pytest.raises(InputError, match=r"^sites\.yaml: quebec_dc\.tariff_usd_kwh"):
        catalog.parse(dict[str, catalog.Site], data, "sites.yaml")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_price_must_be_a_positive_finite_number(number: float) -> None:
    data = catalog.preset("catalog", "tokens")
    data["AKT"]["price_usd"] = number
    with pytest.raises(InputError, match=r"^tokens\.yaml: AKT\.price_usd"):
        catalog.parse(dict[str, catalog.Token], data, "tokens.yaml")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("nonsense", "network: expected one of .*default.*'nonsense'"),
        ({"names": []}, r"network\.names: .*not empty"),
        ({"names": ["akash", "akash"]}, r"network\.names: .*different"),
        ({"names": ["golem"]}, "network: .*akash.*'golem'"),
        ({"names": ["akash"], "foo": 1}, r"^network\.foo: no such key$"),
        (["akash"], r"^network: expected the name of a preset, or .*'names'.*, got \['akash'\]$"),
        ({"names": ["nowhere/mine.yaml"]}, r"nowhere/mine\.yaml: .*no such file"),
    ],
)
def test_a_wrong_selection_lists_what_there_is(selection: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        catalog.load_networks(selection)


def test_no_network_of_a_file_may_be_called_off(tmp_path: Path) -> None:
    """Every world has one of that name, on which rigs are switched off."""
    path = tmp_path / "off.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    with pytest.raises(InputError, match=r"network\.names: expected none called off"):
        catalog.load_networks({"names": ["vast", str(path)]})


def test_a_schedule_without_its_parameters_names_them() -> None:
    for kind, key in (
        ("baseline", "power_eib"),
        ("inflation", "round_h"),
        ("linear", "start_date"),
        ("geometric", "start_date"),
        ("halving", "cap"),
    ):
        schedule = catalog.Schedule(kind=kind, tokens_per_day=1.0)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=key):
            emission.tokens_per_hour(schedule, np.zeros(1))
    schedule = catalog.Schedule(kind="linear", tokens_per_day=1.0, start_date="soon")
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        emission.tokens_per_hour(schedule, np.zeros(1))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"reference_gpu": "voodoo_2"}, ("mine.reference_gpu", "'voodoo_2'")),
        ({"gpus": ["rtx_4090", "voodoo_2"]}, ("mine.gpus", "'voodoo_2'")),
        ({"token": "DOGE"}, ("mine.token", "'DOGE'")),
        ({"demand": None}, ("mine", "an emission, a demand or both")),
        ({"min_vram_gb": 48}, ("mine.reference_gpu", "eligible")),
    ],
)
def test_a_reference_to_nothing_is_one_line_when_the_world_is_built(
    tmp_path: Path, changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        build_scenario(fleet="small", networks={"names": [str(path)]})
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in names), message
