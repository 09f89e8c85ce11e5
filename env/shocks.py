"""The only source of randomness: Philox4x32-10, a function of (seed, stream, index, counter).

No generator holds state, so the same world comes out in any row of any batch, on any device, and
nothing has to be saved to go on. Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as
1, 2, 3" (SC 2011); constants as in Random123's `philox.h`, against whose known-answer vectors the
tests check this file.
"""

from __future__ import annotations

import enum
import hashlib
import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MUL_0, _MUL_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85


class Stream(enum.IntEnum):
    """Which question a random number answers; what shares a constant has other indices or counters.

    A number that is taken stays taken: another would be another world from the same seed.
    """

    START = 1  # start date and start hour of an episode
    FLEET = 2  # the random fleet: models, counts, sites
    INITIAL = 3  # initial assignment, tenure and leases
    REGIME = 4  # the market's first regime and its switches
    TOKEN = 5  # tokens' hourly increments, jumps and daily turnover
    RENT = 6  # steps of the GPU rents and their common cycle
    NETWORK_HOUR = 7  # estimate and demand noise, registrations
    NETWORK_OUTAGE = 8
    SITE_OUTAGE = 9
    RIG_SOFT = 10
    RIG_HARD = 11
    RIG_RECLAIM = 12
    RIG_HOUR = 13  # lease arrivals and lengths
    ESTIMATE_SPIKE = 14
    ESTIMATE_STOP = 15
    RULE_CHANGE = 16
    LIFE = 17  # launch and death of emerging networks
    REPLAY = 18  # start date of a replayed episode
    BRIDGE = 19  # hours between recorded closes
    BASIS = 20  # levels of networks, tokens and rents at the start of an episode
    TRACE = 22  # zone and first hour of a recorded availability, rank of a rig in it


def name_hash(name: str) -> int:
    """Stable 32-bit index of an entity, so that neither its position nor its neighbours matter."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "little")


def name_hashes(names: tuple[str, ...] | list[str], device: torch.device | str = "cpu") -> Tensor:
    """`name_hash` of each name, int64 [len(names)]."""
    return torch.tensor([name_hash(n) for n in names], dtype=torch.int64, device=device)


def episode_seed(seed: int, episode: int) -> int:
    """Seed of the k-th episode after autoreset; episode 0 is the seed itself."""
    if episode == 0:
        return seed
    digest = hashlib.blake2s(f"{seed}/{episode}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def philox(
    c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, k0: Tensor, k1: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 on broadcastable int64 tensors holding 32-bit words; returns four words."""
    for _ in range(10):
        product_0, product_1 = c0 * _MUL_0, c2 * _MUL_1
        c0 = ((product_1 >> 32) & _MASK) ^ c1 ^ k0
        c2 = ((product_0 >> 32) & _MASK) ^ c3 ^ k1
        c1, c3 = product_1 & _MASK, product_0 & _MASK
        k0, k1 = (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


def words(
    seeds: Tensor, stream: Stream, index: Tensor, counter: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four independent 32-bit words (as int64) for each (seed, index, counter).

    seeds, index and counter are int64 and broadcast together, for example seeds [1, B, 1],
    index [N], counter [T, 1, 1] give [T, B, N]. Counter is the hour or the number of an event.
    """
    zero = torch.zeros((), dtype=torch.int64, device=seeds.device)
    return philox(
        counter & _MASK, zero + int(stream), index & _MASK, zero, seeds & _MASK, seeds >> 32 & _MASK
    )


def uniform(word: Tensor) -> Tensor:
    """A word to a float32 in the open interval (0, 1): 23 bits and a half, never 0 or 1."""
    return ((word >> 9).to(torch.float32) + 0.5) * (1.0 / (1 << 23))


def normals(word_0: Tensor, word_1: Tensor) -> tuple[Tensor, Tensor]:
    """Two words to two independent standard normals (Box-Muller), float32."""
    radius = torch.sqrt(-2.0 * torch.log(uniform(word_0)))
    angle = (2.0 * math.pi) * uniform(word_1)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def exponential(word: Tensor) -> Tensor:
    """A word to a standard exponential, float32."""
    return -torch.log(uniform(word))
