"""Randomness is a published function of (seed, stream, index, counter), and nothing else."""

import math

import pytest
import torch

from env.shocks import (
    Stream,
    episode_seed,
    exponential,
    name_hash,
    name_hashes,
    normals,
    philox,
    uniform,
    words,
)

M = 0xFFFFFFFF
# Random123, tests/kat_vectors, rows "philox4x32 10": counter, key, result
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((M, M, M, M), (M, M), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_random123s_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    got = philox(*(torch.tensor(v) for v in (*counter, *key)))
    assert tuple(int(v) for v in got) == expected


def test_the_seed_the_stream_the_index_and_the_counter_each_matter() -> None:
    def draw(seed: int, stream: Stream, index: int, counter: int) -> tuple[int, ...]:
        w = words(torch.tensor([seed]), stream, torch.tensor([index]), torch.tensor([counter]))
        return tuple(int(v) for v in w)

    draws = {
        draw(1, Stream.TOKEN, 2, 3),
        draw(1 + 2**32, Stream.TOKEN, 2, 3),  # the upper half of the seed is used too
        draw(2, Stream.TOKEN, 2, 3),
        draw(1, Stream.RENT, 2, 3),
        draw(1, Stream.TOKEN, 3, 3),
        draw(1, Stream.TOKEN, 2, 4),
    }
    assert len(draws) == 6


def test_streams_are_different_numbers() -> None:
    assert len({int(s) for s in Stream}) == len(list(Stream))


def test_uniforms_stay_inside_the_open_interval_at_the_extremes() -> None:
    u = uniform(torch.tensor([0, M]))
    assert 0 < float(u[0]) < float(u[1]) < 1


def test_draws_have_the_moments_of_their_laws() -> None:
    w = words(
        torch.arange(200)[:, None],
        Stream.TOKEN,
        name_hashes(["x"]),
        torch.arange(500)[None],
    )
    z = torch.stack(normals(w[0], w[1])).double()
    n = z.numel()
    assert abs(float(z.mean())) < 5 / math.sqrt(n)
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((z[0] * z[1]).mean())) < 5 / math.sqrt(n / 2)
    assert float((z**4).mean()) == pytest.approx(3, abs=0.1)
    e = exponential(w[2]).double()
    assert float(e.mean()) == pytest.approx(1, abs=5 / math.sqrt(n / 2))
    assert float(e.var()) == pytest.approx(1, abs=0.05)


def test_names_hash_the_same_for_ever_and_episodes_get_new_seeds() -> None:
    assert name_hash("akash") == 0xFA79D0C3
    assert name_hashes(["a", "b"]).tolist() == [name_hash("a"), name_hash("b")]
    assert episode_seed(7, 0) == 7
    assert len({episode_seed(7, k) for k in range(100)}) == 100
    assert all(0 <= episode_seed(7, k) < 2**63 for k in range(100))
