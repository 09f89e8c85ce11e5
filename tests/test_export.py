"""The bundle: it says what it is, holds what it says, and appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickletools
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from exported import ROOT
from safetensors.torch import load_file

import agents.run_folder
from agents import export
from agents.card import model_card
from agents.checkpoint import load_best
from agents.run_folder import write_atomic

NAMES = {
    "policy.onnx",
    "manifest.json",
    "golden.json",
    "snapshot.schema.json",
    "policy.safetensors",
    "MODEL_CARD.md",
}


def test_the_command_prints_where_the_bundle_is_and_nothing_else(
    exported_run: Path, bundle: Path
) -> None:
    assert (exported_run / "said.txt").read_text() == f"bundle: {bundle}\n"


def test_the_bundle_holds_its_files_and_their_digests(exported_run: Path, bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == {*NAMES, "SHA256SUMS"}
    sums = (bundle / "SHA256SUMS").read_text()
    digests = {n: hashlib.sha256((bundle / n).read_bytes()).hexdigest() for n in sorted(NAMES)}
    assert sums == "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    lineage = json.loads((exported_run / "lineage.json").read_text())
    assert [*lineage][-1] == "bundle"
    assert lineage["bundle"].items() >= digests.items()
    assert (bundle / "golden.json").stat().st_size < 1e6


def test_nothing_of_the_machine_and_nothing_executable_is_in_the_bundle(bundle: Path) -> None:
    model = onnx.load(bundle / "policy.onnx")
    parts = (model, model.graph, *model.graph.node, *model.graph.initializer)
    assert not any(part.metadata_props or part.doc_string for part in parts)
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    for path in bundle.iterdir():
        content = path.read_bytes()
        for trace in (b".py", b"/home", b"/usr", b"/tmp", b"site-packages", str(ROOT).encode()):
            assert trace not in content, (path.name, trace)
        assert not content.startswith((b"PK", b"\x80"))
        with pytest.raises((ValueError, IndexError, KeyError)):
            list(pickletools.genops(content))


def test_the_weights_are_the_runs_own(exported_run: Path, bundle: Path) -> None:
    weights, best = load_file(bundle / "policy.safetensors"), load_best(exported_run)
    assert weights.keys() == best.weights.keys()
    assert all(torch.equal(weights[name], best.weights[name]) for name in weights)


def test_a_failure_midway_leaves_the_old_bundle_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "bundle"
    export.write_bundle(place, {"a": b"1", "b": b"2"})
    before = {path: path.read_bytes() for path in place.iterdir()}
    calls = iter(range(100))

    def full(_: int) -> None:
        if next(calls) == 1:
            raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        export.write_bundle(place, {"a": b"3", "b": b"4"})
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    assert [*tmp_path.iterdir()] == [place]


def test_a_text_that_cannot_be_written_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_atomic(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "half a pair \ud800")
    assert [*tmp_path.iterdir()] == [file]
    assert file.read_text() == "old"


def test_every_file_of_a_run_has_the_same_rights(exported_run: Path) -> None:
    """Weights too, which safetensors by itself writes for their owner alone."""
    assert len({f.stat().st_mode for f in exported_run.rglob("*") if f.is_file()}) == 1
    assert any(f.suffix == ".safetensors" for f in exported_run.glob("checkpoints/*/*"))


@pytest.mark.skipif(os.name == "nt", reason="has no umask")
@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)]
)
def test_what_is_written_has_the_rights_that_the_umask_allows(
    umask: int, file: int, folder: int, tmp_path: Path
) -> None:
    """Whoever may read the folder of a run may read all of it; a bundle is served by another."""
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a.json", "{}")
        export.write_bundle(tmp_path / "bundle", {"a": b"1"})
        export.write_bundle(tmp_path / "bundle", {"a": b"2"})
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop(tmp_path / "bundle") == folder
    assert set(modes.values()) == {file}


@pytest.mark.parametrize("stepwise", [False, True])
def test_a_bundle_is_replaced_as_a_whole(
    stepwise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stepwise:
        monkeypatch.setattr(agents.run_folder, "_exchanged", lambda one, other: False)
    place = tmp_path / "bundle"
    export.write_bundle(place, {"a": b"1", "old": b"1"})
    export.write_bundle(place, {"a": b"2", "new": b"2"})
    assert {path.name for path in place.iterdir()} == {"a", "new", "SHA256SUMS"}
    assert (place / "a").read_bytes() == b"2"
    assert [*tmp_path.iterdir()] == [place]


@pytest.mark.skipif(sys.platform != "linux", reason="needs an exchange of folders")
def test_whoever_reads_the_bundle_while_it_is_replaced_finds_every_file(tmp_path: Path) -> None:
    place, done = tmp_path / "bundle", threading.Event()
    export.write_bundle(place, {"a": b"0", "b": b"0"})

    def replace() -> None:
        for k in range(60):
            export.write_bundle(place, {"a": b"%d" % k, "b": b"%d" % k})
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    looked = 0
    while not done.is_set():
        first, second = int((place / "a").read_bytes()), int((place / "b").read_bytes())
        assert first <= second  # each file of one bundle, and never of an older one
        looked += 1
    writer.join()
    assert looked > 10


def test_a_folder_that_is_no_bundle_is_never_replaced(
    exported_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit) as stopped:
        export.script([f"run={exported_run}", f"out={tmp_path}"])
    assert stopped.value.code == 2
    assert "out: expected a new folder or an earlier bundle" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments: expected run=RUN_DIR [out=FOLDER]"),
        (["run"], "arguments: expected run=RUN_DIR [out=FOLDER], got 'run'"),
        (["run=RUN", "outt=x"], "arguments: expected run=RUN_DIR [out=FOLDER], got 'outt=x'"),
        (["run=nowhere"], "run: expected a run folder (with config.yaml)"),
        (["run=EMPTY"], "run: expected a run folder with a checkpoint"),
        (["run=BROKEN"], "policy.safetensors: expected weights of this network"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_line(
    arguments: list[str],
    message: str,
    exported_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    shutil.copy(exported_run / "config.yaml", empty)
    shutil.copytree(exported_run, broken)
    (facts,) = broken.glob("checkpoints/*/policy.json")
    facts.write_text(facts.read_text().replace('"width": 16', '"width": 24'))
    places = {"RUN": exported_run, "EMPTY": empty, "BROKEN": broken}
    filled = [re.sub("RUN|EMPTY|BROKEN", lambda m: str(places[m[0]]), a) for a in arguments]
    with pytest.raises(SystemExit) as stopped:
        export.script(filled)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_the_card_says_what_the_bundle_is_and_where_it_ends(
    bundle: Path, manifest: dict[str, Any]
) -> None:
    card = (bundle / "MODEL_CARD.md").read_text()
    assert card.startswith(f"# {manifest['bundle']}\n")
    for part_ in ("Intended use", "Training", "How good", "Parity", "Guardrails", "Limits"):
        assert f"\n## {part_}" in card
    assert f"`{manifest['rule']['name']}`" in card
    assert "the tuned rule's accounting" in card  # whose flip price is no threshold of the policy's
    assert "MIT" in card


def test_the_card_says_that_a_network_that_does_not_pay_is_believed_and_what_to_do(
    bundle: Path,
) -> None:
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "deny list" in card
    assert "`estimate_usd` what was really paid" in card


def test_the_card_tells_the_scores_against_both_bounds(manifest: dict[str, Any]) -> None:
    usd = {"policy": 52.0, "opponent": 51.0, "clairvoyant": 61.0, "bound_expected": 56.0}
    gaps = {"gap_closed": (0.1, 0.05, 0.15), "gap_closed_expected": (0.2, 0.1, 0.3)}
    said = {
        **manifest,
        "scores": {
            **{"worlds": 8, "split": "test", "rigs": 32, "horizon_h": 720, "moves_rig_day": 0.1},
            **{"opponent": "break_even", "verdict": "better than the tuned rule"},
            **{f"{name}_usd_rig_day": value for name, value in usd.items()},
            **{
                f"{name}{end}": value
                for name, values in gaps.items()
                for end, value in zip(("", "_low", "_high"), values, strict=True)
            },
        },
    }
    card = model_card(said, "small ones")
    assert "| 52.00 | 51.00 | 56.00 | 61.00 |" in card
    assert "it closes 10% (95 % interval 5% to 15%)" in card
    assert "nearer bound 20% (95 % interval 10% to 30%)" in card
    said["scores"]["gap_closed_low"] = None
    assert "it closes a share that is not defined" in model_card(said, "small ones")
