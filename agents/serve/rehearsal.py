"""The recorded cases of a bundle, replayed: whether its graph orders what torch ordered."""

from __future__ import annotations

from .bundle import UNCLEAR, Bundle
from .columns import Floats
from .errors import BundleError, FieldError
from .model import Model, remember
from .snapshot import parse


def rehearse(bundle: Bundle, model: Model) -> int:
    """Replay the recorded cases; how many orders were compared.

    `BundleError` at the first that differs from what torch ordered.
    """
    compared = 0
    for k, sequence in enumerate(bundle.golden["sequences"]):
        memory: Floats | None = None
        for h, hour in enumerate(sequence["hours"]):
            where = f"golden.json: sequences.{k}.hours.{h}"
            try:
                seen = parse(hour["snapshot"], bundle.columns)
            except FieldError as error:
                raise BundleError(f"{where}: {error}") from None
            before = seen.averages if memory is None else memory
            if before.shape[1] != len(seen.network_names):
                raise BundleError(f"{where}: other networks than the hour before")
            orders = model.run(seen, before, hour["dt_h"])
            if orders is None:
                raise BundleError(f"{where}: the graph gave no answer")
            memory = remember(before, seen, hour["dt_h"])
            choices = (None, *seen.network_names)
            for rig, order in zip(seen.rig_names, orders.tolist(), strict=True):
                expected, got = hour["orders"][rig], choices[order]
                if expected not in (UNCLEAR, got):
                    raise BundleError(f"{where}: {rig} was ordered {expected}, now {got}")
                compared += expected != UNCLEAR
    return compared
