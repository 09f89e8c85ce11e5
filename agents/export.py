"""From a run folder to a bundle for live operations: `python -m agents.export run=RUN_DIR`.

A graph that does not decide as torch does is refused, and a bundle appears whole or not at all.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

from agents.card import model_card
from agents.checkpoint import Best, last_checkpoint, load_best, load_weights
from agents.cli import guarded
from agents.config import Config, load_config
from agents.evaluation import rivals
from agents.golden import golden, live, scenario_of
from agents.graph import PolicyGraph
from agents.lineage import add_bundle, read_lineage
from agents.manifest import Made, Plain, manifest, scores
from agents.network import FleetNetwork
from agents.onnx_graph import to_onnx
from agents.parity import ParityError, check_parity
from agents.ranges import training_ranges
from agents.rules import BreakEven
from agents.run_folder import environment, read_config, to_json, write_folder_atomic
from agents.schema import snapshot_schema
from agents.serve.bundle import SUMS
from agents.tracking import group_hash
from agents.tuning import Tuned, in_words
from agents.worlds import Split, make_scenario
from env.errors import InputError

USAGE = "run=RUN_DIR [out=FOLDER]"
_WEIGHTS = "policy.safetensors"
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime")


def export(
    run: Path, config: Config, plain: Plain, tuned: Tuned, folder: Path | None = None
) -> Path:
    """Write the bundle of a run's best policy, by default to its own folder, and return where.

    plain: the configuration as recorded. ParityError, and nothing is written, where the exported
    graph decides otherwise than torch; InputError where the run or the folder cannot be used.
    """
    place = run / "bundle" if folder is None else folder
    if place.exists() and not (place / SUMS).is_file():
        raise InputError("out", "a new folder or an earlier bundle", str(place))
    best = load_best(run)
    graph = load_graph(run, best)
    scenario = make_scenario(replace(config, device="cpu"), Split.TRAIN)
    (_, example, _), *_ = live(graph, scenario_of(config, 3, 1), 2, 1)
    model = to_onnx(graph, example)
    parity = check_parity(model, graph, config)
    about = Made(
        name=f"{config.agent.kind}-{hashlib.sha256(model).hexdigest()[:8]}",
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        network=asdict(best.network),
        training=training_ranges(graph, config),
        scores=scores(_summary(run)),
        parity=parity,
        provenance=_provenance(run, config, plain, best),
    )
    said = manifest(about, scenario, tuned)
    contents = {
        "policy.onnx": model,
        "manifest.json": to_json(said).encode(),
        "golden.json": json.dumps(golden(graph, config), separators=(",", ":")).encode(),
        "snapshot.schema.json": to_json(snapshot_schema(said)).encode(),
        _WEIGHTS: (last_checkpoint(run) / _WEIGHTS).read_bytes(),
        "MODEL_CARD.md": model_card(said, in_words(scenario)).encode(),
    }
    write_bundle(place, contents)
    if folder is None:
        add_bundle(run, place)
    return place


def write_bundle(place: Path, contents: dict[str, bytes]) -> None:
    """The files and their SHA-256, all at once; a bundle that is there is replaced."""
    sums = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)]

    def fill(draft: Path) -> None:
        for name, content in {**contents, SUMS: "".join(sums).encode()}.items():
            with (draft / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    write_folder_atomic(place, fill)


def load_graph(run: Path, best: Best) -> PolicyGraph:
    """The graph of a run's best policy; InputError for weights of another version's network."""
    network = FleetNetwork(best.network, BreakEven())
    weights = {name.removeprefix("network."): value for name, value in best.weights.items()}
    load_weights(network, weights, run)
    return PolicyGraph(network).eval()


def _summary(run: Path) -> Plain | None:
    path = run / "evaluation" / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _provenance(run: Path, config: Config, plain: Plain, best: Best) -> Plain:
    """What the weights came from; data: SHA-256 by stage and file of the run's lineage."""
    place = environment()
    return {
        "commit": place["git_commit"],
        "config_hash": group_hash(plain),
        "seed": config.seed,
        "step": best.step,
        "versions": {
            "python": place["python"],
            **{name: metadata.version(name) for name in _TOOLS},
        },
        "data": {k: v for k, v in read_lineage(run).items() if k != "bundle"},
    }


def main(arguments: list[str]) -> None:
    """`run=RUN_DIR`, and `out=FOLDER` for a bundle elsewhere than in the run's folder."""
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = [a for a in arguments if a.split("=")[0] not in ("run", "out") or "=" not in a]
    if unknown or "run" not in given:
        raise InputError("arguments", USAGE, " ".join(unknown) or None)
    run = Path(given["run"])
    config, plain = load_config(read_config(run))
    place = export(run, config, plain, rivals(config, print), _folder(given.get("out")))
    print(f"bundle: {place}")


def _folder(out: str | None) -> Path | None:
    return None if out is None else Path(out)


def script(arguments: list[str]) -> None:
    """The command line: exit code 1 where torch and the exported graph differ, else those of
    `guarded`."""
    guarded(lambda: main(arguments), failed=(ParityError,))


if __name__ == "__main__":
    script(sys.argv[1:])
