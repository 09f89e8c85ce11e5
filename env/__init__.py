"""A fleet of GPU rigs that earns on decentralised networks: `Nirmaan/Allocation-v0`."""

import gymnasium

gymnasium.register(
    id="Nirmaan/Allocation-v0",
    entry_point="env.gym_env:AllocationEnv",
    vector_entry_point="env.vector_env:AllocationVectorEnv",
)
