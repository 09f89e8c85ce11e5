"""A bundle in simulated worlds: onnxruntime with its guardrails, scored as live operations have it.

Each world has a runtime of its own, with its memory, moves and books; nothing of torch decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.outlook import Observation, read
from agents.outlook import Policy as Subject
from agents.serve.bundle import Bundle, read_bundle
from agents.serve.columns import AVERAGES, NETWORKS
from agents.serve.errors import BundleError
from agents.serve.limits import settings
from agents.serve.model import Model
from agents.serve.rehearsal import rehearse
from agents.serve.runtime import Policy
from agents.serve.snapshot import Snapshot
from agents.serve.state import HOUR_S
from env.errors import InputError
from env.fleet import rig_names
from env.scenario import Scenario


@dataclass
class Bundled:
    """The policy of a bundle, for worlds of a scenario that are lived from hour 0 to their end."""

    name: str
    folder: Path
    rigs: tuple[str, ...]
    networks: tuple[str, ...]
    horizon_h: int
    _hour: int = 0
    _worlds: list[Policy] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, scenario: Scenario) -> Bundled:
        """InputError for a bundle that is not what its maker wrote."""
        bundle, _ = load(folder)
        rigs, networks = rig_names(scenario), scenario.network_names
        return cls(bundle.manifest["bundle"], folder, rigs, networks, scenario.horizon_h)

    def __getstate__(self) -> dict[str, object]:
        """For a worker process, which reads the bundle itself."""
        return {**self.__dict__, "_hour": 0, "_worlds": []}

    def __call__(self, observation: Observation) -> Tensor:
        """Orders int64 [B, R] of an hour; every `horizon_h` calls the worlds are new ones."""
        if self._hour % self.horizon_h == 0:
            self._worlds = runtimes(*load(self.folder), len(observation["rigs"]))
        orders = [
            self._orders(policy, snapshot)
            for policy, snapshot in zip(self._worlds, self._snapshots(observation), strict=True)
        ]
        self._hour += 1
        device = observation["rigs"].device
        return torch.tensor(orders, dtype=torch.int64, device=device)

    def _orders(self, policy: Policy, snapshot: Snapshot) -> list[int]:
        sent = policy.answer(snapshot, snapshot.time).orders
        place = {name: n + 1 for n, name in enumerate(self.networks)}
        return [place[sent[rig]] if rig in sent else 0 for rig in self.rigs]

    def _snapshots(self, observation: Observation) -> list[Snapshot]:
        """Each world's facts as the runtime reads them; averages count in the first hour alone."""
        seen = {key: value.double().cpu().numpy() for key, value in observation.items()}
        work = read(observation, "pairs", "work").double().cpu().numpy()
        here = read(observation, "pairs", "here").argmax(-1).cpu().numpy()
        time = self._hour * HOUR_S
        facts, averages = np.split(seen["networks"], [len(NETWORKS)], -1)
        assert averages.shape[-1] == len(AVERAGES)
        return [
            Snapshot(
                time=time,
                rig_names=self.rigs,
                network_names=self.networks,
                rigs=seen["rigs"][k],
                networks=facts[k],
                work=work[k],
                assignment=here[k],
                market=seen["market"][k],
                observed=np.full(len(self.networks), time),
                averages=averages[k].T,
                columns=policy.bundle.columns,
            )
            for k, policy in enumerate(self._worlds)
        ]


def bundled(folder: Path, scenario: Scenario) -> dict[str, Subject]:
    """A bundle's policy by its name."""
    subject = Bundled.of(folder, scenario)
    return {subject.name: subject}


def load(folder: Path) -> tuple[Bundle, Model]:
    """A bundle that was read, checked and rehearsed, and its graph."""
    try:
        bundle = read_bundle(folder)
        model = Model(bundle.model)
        rehearse(bundle, model)
    except BundleError as error:
        raise InputError("bundle", "a bundle as its maker wrote it", str(error)) from None
    return bundle, model


def runtimes(bundle: Bundle, model: Model, worlds: int) -> list[Policy]:
    """A runtime for each world, each with the manifest's guardrails and a memory of its own."""
    limits = settings(bundle.manifest["guardrails"])
    return [Policy(bundle, model, limits, None) for _ in range(worlds)]


def bundle_of(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """`bundle=DIR` of a command line, and the other arguments.

    A bundle in the folder of its run is scored in that run's worlds, as `run=` would; another in
    those of the default scenario, or as the arguments say.
    """
    given = [Path(a.removeprefix("bundle=")) for a in arguments if a.startswith("bundle=")]
    others = [a for a in arguments if not a.startswith("bundle=")]
    if not given:
        return None, others
    for key in ("run", "policy"):
        if any(a.startswith(f"{key}=") for a in others):
            raise InputError(key, "nothing beside bundle=", "a value")
    run = given[-1].resolve().parent
    if (run / "config.yaml").is_file():
        others.append(f"run={run}")
    return given[-1].absolute(), others
