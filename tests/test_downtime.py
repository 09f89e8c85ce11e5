"""What an hour in which a rig is down costs, by the catalogue's own figures."""

from __future__ import annotations

import pytest
from simulated import lived, lone

from env import catalog


def test_a_rented_rig_is_billed_while_it_is_up_and_not_while_it_is_down() -> None:
    """An RTX 4090 on the spot market: 0.6 of its rent; an owned one pays its hosting always."""
    ratio = lone("vast", "rtx_4090", 1, 1, owned=False).now.rent_ratio
    world = lone("vast", "rtx_4090", 1, 1, owned=False)
    level = float(ratio[0, world.scenario.gpu_names.index("rtx_4090")])
    rent = catalog.load_gpus()["rtx_4090"].rent_usd_h * 0.6 * level
    assert float(lived("vast", "rtx_4090", owned=False).housing_usd) == pytest.approx(rent)
    assert float(lived("vast", "rtx_4090", owned=False, up=False).housing_usd) == 0.0
    hosting = catalog.load_sites()["texas_dc"].hosting_usd_gpu_h
    assert float(lived("vast", "rtx_4090").housing_usd) == pytest.approx(hosting)
    assert float(lived("vast", "rtx_4090", up=False).housing_usd) == pytest.approx(hosting)


@pytest.mark.parametrize(
    ("network", "staked", "share"),
    [("marlin", 100_000.0, 0.002), ("aethir", 400_266.0, 0.0005)],
)
def test_an_hour_of_downtime_slashes_a_share_of_the_stake(
    network: str, staked: float, share: float
) -> None:
    """Tokens staked for a unit of work, an H100, at 3 USD each; 4 GPUs stake four times as much."""
    assert float(lived(network, "h100_sxm", token_usd=3.0).penalty_usd) == 0.0
    for gpus in (1, 4):
        down = lived(network, "h100_sxm", gpus=gpus, up=False, token_usd=3.0)
        assert float(down.penalty_usd) == pytest.approx(share * staked * gpus * 3.0, rel=1e-5)
