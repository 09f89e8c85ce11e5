"""What a person is shown of a world, as a table and as a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from conftest import scenario

from env.gym_env import AllocationEnv


@torch.inference_mode()
def test_ansi_says_what_each_rig_does() -> None:
    """One rig of each kind, set up by hand: the words are those of the rules of its network."""
    world = AllocationEnv(networks="default", fleet="small", horizon=4, render_mode="ansi")
    world.reset(seed=0)
    inner, names = world.world, world.scenario.network_names
    q = inner.now.quotes
    q.open.fill_(1.0)
    q.up.fill_(1.0)
    q.up[0, names.index("io_net")] = 0.0
    inner.now.rig_up.fill_(True)
    inner.now.rig_up[0, 7] = False
    places = ("off", "render", "akash", "akash", "akash", "io_net", "aethir", "render")
    change = {
        "assignment": torch.tensor([[names.index(name) for name in places]]),
        "provisioning_h": torch.tensor([[0.0, 0, 0.3, 0, 0, 0, 0, 0]]),
        "lease_h": torch.tensor([[0.0, 0, 0, 9.0, 0, 0, 0, 0]]),
    }
    inner.state = replace(inner.state, **change)
    said = [line.split("  ")[-1] for line in world.render().splitlines()[-8:]]
    assert said == [
        "switched off",
        "working",
        "provisioning, 0.3 h left",
        "leased, 9 h left",
        "waiting for a lease",
        "idle, the network is down",
        "working in the pool, without a lease",
        "down",
    ]


def test_ansi_names_rigs_and_networks() -> None:
    world = AllocationEnv(fleet="small", horizon=24, render_mode="ansi")
    world.reset(seed=0)
    world.step(np.zeros(8, dtype=np.int64))
    text = world.render()
    assert isinstance(text, str)
    for name in scenario().network_names:
        assert name in text
    assert "rtx_3090-x2-ohio_home-1" in text
    assert "hour 1 of 24" in text


def test_rgb_array_shows_the_allocation() -> None:
    world = AllocationEnv(fleet="small", horizon=24, render_mode="rgb_array")
    world.reset(seed=0)
    for _ in range(10):
        world.step(world.action_space.sample())
    image = world.render()
    assert isinstance(image, np.ndarray)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
