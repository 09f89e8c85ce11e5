"""What an orchestrator knows at an instant, from JSON with names and units to arrays."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from hashlib import blake2s, sha256
from itertools import compress, repeat
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .catalog import read_columns
from .columns import AVERAGES, LARGEST, NETWORKS, OFF, Columns, Floats
from .document import (
    MOST_CHARACTERS,
    check_keys,
    entries,
    is_name,
    join,
    load,
    number,
    unknown,
)
from .errors import NOTHING, FieldError
from .table import Row, read_table

Ints = NDArray[np.int64]

SCHEMA = 1
MOST_PAIRS = 1_000_000  # rigs x networks; to decide on as many takes 1.4 GB; assumption
MOST_KW_A_GPU = 10.0  # assumption: today's draw about 1 kW, and none less than 10 W
_LENGTHS = frozenset(range(1, MOST_CHARACTERS + 1))  # of a name
_FIELDS = ("schema", "time", "market", "networks", "rigs")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The facts of R rigs on N networks; NaN where a feed is missing."""

    time: float  # s since 1970, UTC
    rig_names: tuple[str, ...]  # [R]
    network_names: tuple[str, ...]  # [N], the last is `off`
    rigs: Floats  # [R, 19] columns of `columns.RIGS`
    networks: Floats  # [N, 27] columns of `columns.NETWORKS`
    work: Floats  # [R, N] the rig would put in the network's pool, 0 = not eligible
    assignment: Ints  # [R] network that the rig is on
    market: Floats  # [5] columns of `columns.MARKET`
    observed: Floats  # [N] s since 1970, when the network's feed was read
    averages: Floats  # [5, N] rows of `columns.AVERAGES`, NaN where not given
    columns: Columns
    strangers: Mapping[str, str] = field(default_factory=dict)  # rig -> its GPU, in no catalogue

    @cached_property
    def digest(self) -> str:
        """Hash of the facts and names, to tell a snapshot that is sent again from another."""
        names = "\n".join((*self.rig_names, "", *self.network_names))
        found = sha256(f"{self.time!r}\n{names}".encode())  # most processors have it built in
        for part in (self.rigs, self.networks, self.work, self.assignment, self.market):
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    def of(self, name: str) -> Floats:
        """A column of the rigs, [R]."""
        column: Floats = self.rigs[:, self.columns.rigs.index[name]]
        return column

    def on(self, name: str) -> Floats:
        """A column of the networks, [N]."""
        column: Floats = self.networks[:, self.columns.networks.index[name]]
        return column

    def at(self, name: str) -> float:
        """A number of the market."""
        return float(self.market[self.columns.market.index[name]])


def parse(
    source: bytes | str | Mapping[str, Any], manifest: Mapping[str, Any] | Columns
) -> Snapshot:
    """A snapshot from JSON, given as text or as what it stands for.

    Whoever reads many snapshots passes `read_columns(manifest)`, which compiles the manifest once.
    A field that is unknown, missing, given twice, ill-typed or beyond its plausible limits is a
    `FieldError` with its path; a number that is null, NaN or infinite is a feed that is missing.
    """
    columns = manifest if isinstance(manifest, Columns) else read_columns(manifest)
    document = load(source, "snapshot") if isinstance(source, str | bytes) else source
    top = entries(document, "snapshot")
    check_keys(top, "", _FIELDS, _FIELDS)
    if isinstance(top["schema"], bool) or top["schema"] != SCHEMA:
        raise FieldError("schema", str(SCHEMA), top["schema"])
    time = _time(top["time"], "time")
    networks = _rows(top["networks"], "networks")
    if OFF in networks:
        raise FieldError(join("networks", OFF), "no entry, the bundle has its own", networks[OFF])
    rigs = _rows(top["rigs"], "rigs")
    if len(rigs) * (len(networks) + 1) > MOST_PAIRS:
        wanted = f"at most {MOST_PAIRS} pairs of rig and network"
        raise FieldError("rigs", wanted, len(rigs) * (len(networks) + 1))
    return _snapshot(columns, time, entries(top["market"], "market"), networks, rigs)


def _snapshot(
    columns: Columns, time: float, market: Row, networks: dict[str, Row], rigs: dict[str, Row]
) -> Snapshot:
    kind = _places(networks, columns.networks.catalog)
    feeds = read_table(columns.networks, "networks", networks, kind)  # [N - 1, 27 + 5]
    names = (*networks, OFF)
    place = {name: n for n, name in enumerate(names)}
    gpu = _gpus(rigs, columns.rigs.catalog)
    table = read_table(columns.rigs, "rigs", rigs, gpu)  # [R, 19]
    _check_power(columns, rigs, table)
    assignment = _assignment(rigs, place)
    table[:, columns.rigs.index["tiebreak"]] = [*map(tiebreak, rigs)]
    work = _work(columns, gpu, kind, table[:, columns.rigs.index["gpu_count"]])
    _override(work, rigs, networks)
    facts = np.vstack((feeds[:, : len(NETWORKS)], columns.off))  # [N, 27]
    where = columns.networks.index
    mine = work[np.arange(len(rigs)), assignment]
    facts[:, where["own_work"]] = np.bincount(assignment, mine, len(names))
    facts[:, where["own_rigs"]] = np.bincount(assignment, minlength=len(names))
    hour = read_table(columns.market, "", {"market": market}, np.array([-1]))[0]
    hour[columns.market.index["hour_of_day"]] = time % 86_400 / 3_600
    still = [[columns.off[where[of]]] for of, _ in AVERAGES.values()]  # `off` never changes
    return Snapshot(
        time=time,
        rig_names=tuple(rigs),
        network_names=names,
        rigs=table,
        networks=facts,
        work=work,
        assignment=assignment,
        market=hour,
        observed=np.array([*_observed(networks, time), time]),
        averages=np.hstack((feeds[:, len(NETWORKS) :].T, still)),
        columns=columns,
        strangers=_strangers(rigs, gpu),
    )


def _rows(value: Any, path: str) -> dict[str, Row]:
    """Named rows, each a dict under a name that can be printed."""
    rows = entries(value, path)
    if not _all_names(rows):
        wanted = f"names of 1 to {MOST_CHARACTERS} printable characters"
        raise FieldError(path, wanted, next(name for name in rows if not is_name(name)))
    if set(map(type, rows.values())) <= {dict}:
        return rows
    return {name: entries(row, join(path, name)) for name, row in rows.items()}


def _all_names(keys: Collection[Any]) -> bool:
    """Whether each is a name (`is_name`), asked of all at once."""
    try:
        together, lengths = "".join(keys), {*map(len, keys)}
    except TypeError:  # one is no text
        return False
    return together.isprintable() and lengths <= _LENGTHS


def _places(names: Collection[Any], known: Mapping[str, int]) -> Ints:
    return np.fromiter(map(known.get, names, repeat(-1)), np.int64, len(names))


def _assignment(rigs: Mapping[str, Row], place: Mapping[str, int]) -> Ints:
    """Position of the network that each rig is on."""
    networks = map(itemgetter("network"), rigs.values())
    try:
        return np.fromiter(map(place.__getitem__, networks), np.int64, len(rigs))
    except (KeyError, TypeError):  # not there, not known, or nothing that could be a name
        wanted = f"a network of this snapshot or {OFF}"
        for name, row in rigs.items():
            network = row.get("network", NOTHING)
            if not isinstance(network, str) or network not in place:
                path = join(join("rigs", name), "network")
                raise FieldError(path, wanted, network) from None
        raise


def _gpus(rigs: Mapping[str, Row], known: Mapping[str, int]) -> Ints:
    """Each rig's GPU model in the catalogue, -1 if it is not given or not known."""
    given = [row.get("gpu", "") for row in rigs.values()]
    try:
        places = _places(given, known)
    except TypeError:  # nothing that could be a name
        places = np.full(len(given), -1)
    for name, gpu in zip(compress(rigs, places < 0), compress(given, places < 0), strict=True):
        if "gpu" in rigs[name] and not is_name(gpu):
            raise FieldError(join(join("rigs", name), "gpu"), "a GPU model's name", gpu)
    return places


def _strangers(rigs: Mapping[str, Row], gpu: Ints) -> dict[str, str]:
    if (gpu >= 0).all():
        return {}
    rows = zip(rigs.items(), gpu.tolist(), strict=True)
    return {name: row["gpu"] for (name, row), known in rows if known < 0 and "gpu" in row}


def _check_power(columns: Columns, rigs: Collection[str], table: Floats) -> None:
    """`FieldError` at a rig whose power can only be in watts."""
    power_kw, count = (table[:, columns.rigs.index[name]] for name in ("power_kw", "gpu_count"))
    wrong = power_kw > MOST_KW_A_GPU * count  # false of what is not known
    if wrong.any():
        r = int(wrong.argmax())
        path = join(join("rigs", [*rigs][r]), "power_kw")
        raise FieldError(path, f"at most {MOST_KW_A_GPU:g} kW for each GPU", float(power_kw[r]))


def _work(columns: Columns, gpu: Ints, kind: Ints, count: Floats) -> Floats:
    """What each rig's GPUs would put in each pool, [R, N]; every rig can be switched off."""
    work = np.ones((len(gpu), len(kind) + 1))
    units = work[:, :-1]  # of the networks but `off`
    number_of = np.where(columns.per_rig[kind], 1.0, count[:, None])
    np.multiply(columns.mass[:, kind][gpu], number_of, out=units)
    units[~(count[:, None] >= columns.min_gpus[kind])] = 0.0  # also of a count that is not known
    return work


def _override(work: Floats, rigs: Mapping[str, Row], networks: Mapping[str, Row]) -> None:
    """Write the work that a snapshot gives itself over the catalogue's."""
    place = {name: n for n, name in enumerate(networks)}
    given = [(r, name) for r, (name, row) in enumerate(rigs.items()) if "work" in row]
    for r, name in given:
        path = join(join("rigs", name), "work")
        for network, units in entries(rigs[name]["work"], path).items():
            if network not in place:
                raise unknown(path, network, place)
            here = number(units, join(path, network), 0, LARGEST, "work units")
            work[r, place[network]] = here


def _observed(networks: Mapping[str, Row], time: float) -> list[float]:
    return [
        _time(row["observed_at"], join(join("networks", name), "observed_at"))
        if "observed_at" in row
        else time
        for name, row in networks.items()
    ]


def _time(value: Any, path: str) -> float:
    """Seconds since 1970 of a time in ISO 8601 with its zone."""
    try:
        if not (isinstance(value, str) and _TIME.fullmatch(value)):
            raise ValueError
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):  # also of no such day, hour or offset
        raise FieldError(path, "a time such as 2026-11-25T18:00:00Z", value) from None


@lru_cache(maxsize=65_536)
def tiebreak(name: str) -> float:
    """A rig's place in [0, 1), the same in every fleet: a hash of its name, in float32."""
    index = int.from_bytes(blake2s(name.encode(), digest_size=4).digest(), "little")
    return min(float(np.float32(index / 2**32)), 1 - 2**-24)
