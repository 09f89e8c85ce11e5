"""The two scripts as a user runs them, their exit codes, and the wheel."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

import evaluate
import train
from agents.cli import earlier_run, resumed_run
from agents.config import load_config
from agents.rules import RULES, SHIPPED
from env.catalog import CONFIG_DIR
from env.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
SMOKE = ("experiment=smoke", "tracking=disabled")


def command(script: str, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / script), *overrides]


def run(script: str, *overrides: str, cwd: Path) -> str:
    """The standard output of a script that must succeed; Hydra's folders go below `cwd`."""
    done = subprocess.run(command(script, *overrides), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("│")]


def policies(output: str) -> set[str]:
    """The first column of the table, whose later lines may be empty."""
    return {row.split("│")[1].strip() for row in table(output)} - {""}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run, and what it printed."""
    work = tmp_path_factory.mktemp("finished")
    folder = work / "run"
    return folder, run("train.py", *SMOKE, f"hydra.run.dir={folder}", cwd=work)


@pytest.mark.slow
@pytest.mark.xdist_group("scripts")
def test_train_leaves_a_run_folder_that_evaluate_scores_alike(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    assert yaml.safe_load((folder / "config.yaml").read_text())["agent"]["num_envs"] == 4
    assert json.loads((folder / "environment.json").read_text())["torch_threads"] == 1
    assert policies(printed) == {"fleet_ppo", *RULES, *SHIPPED}
    assert printed.index("headroom: ") < printed.index("│") < printed.index("fleet_ppo: ")
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert summary["gap_closed_low"] <= summary["gap_closed"] <= summary["gap_closed_high"]
    assert summary["verdict"] in printed
    assert summary["verdict"] in (folder / "evaluation" / "report.html").read_text()
    report, bundle = printed.splitlines()[-2:]
    assert report == f"report: {folder / 'evaluation' / 'report.html'}"
    assert bundle == f"bundle: {folder / 'bundle'}"
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage["bundle"]["SHA256SUMS"] == sha256(folder / "bundle" / "SHA256SUMS")
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    assert manifest["scores"]["verdict"] == summary["verdict"]
    assert manifest["provenance"]["data"] == {k: v for k, v in lineage.items() if k != "bundle"}
    assert lineage["evaluation"]["scores.csv"] == sha256(folder / "evaluation" / "scores.csv")
    (checkpoint,) = folder.glob("checkpoints/step_*")
    assert lineage["checkpoint"]["policy.safetensors"] == sha256(checkpoint / "policy.safetensors")

    before = sorted(folder.parent.rglob("*"))
    written = (folder / "evaluation" / "summary.json").read_bytes()
    assert table(run("evaluate.py", f"run={folder}", cwd=folder.parent)) == table(printed)
    assert (folder / "evaluation" / "summary.json").read_bytes() == written
    assert sorted(folder.parent.rglob("*")) == before  # in place, no stray output folder


@pytest.mark.slow
@pytest.mark.xdist_group("scripts")
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_an_interrupted_run_ends_like_another_with_the_command_it_says(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    whole, printed = finished
    folder = tmp_path / "a run"
    with subprocess.Popen(
        command("train.py", *SMOKE, f"hydra.run.dir='{folder}'"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as job:
        deadline = time.monotonic() + 60
        while not list(folder.glob("checkpoints/step_*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=60)
    assert job.returncode == 130
    told = re.fullmatch(r"stopped after \d+ steps; `python (.*)` goes on\n", said)
    assert told
    assert table(run(*shlex.split(told[1]), cwd=tmp_path)) == table(printed)

    def files(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}

    assert [path for path in tmp_path.iterdir() if path != folder] == []  # all in place
    assert files(folder) == files(whole)
    told_by_clock = {"timing.csv", "environment.json", "report.html"}
    of_the_bundle = {"manifest.json", "MODEL_CARD.md", "SHA256SUMS", "lineage.json"}  # and commit
    told_by_clock |= of_the_bundle
    for path in files(whole):
        if path.name not in told_by_clock and ".hydra" not in path.parts:
            assert (folder / path).read_bytes() == (whole / path).read_bytes(), path


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent.lerning_rate=1e-3"], "'agent.lerning_rate'"),
        (["+agent.lerning_rate=1e-3"], "agent.lerning_rate"),
        (["fleet=huge"], "'fleet/huge'"),
        (["agent.n_steps=many"], "agent.n_steps"),
        (["agent.batch_size=100"], "agent.batch_size: expected a divisor"),
        (["horizon=-1"], "horizon"),
        (["seed=256"], "seed: expected less than 256, got 256"),
        (["seed=-1"], "seed: expected greater than or equal to 0, got -1"),
        (["device=abacus"], "device: expected a device of this machine"),
        (["fleet=["], "'['"),
        (["market=replay"], "market.prices"),
        (["market=replay", "market.prices=nowhere.csv"], "nowhere.csv"),
        (["evaluation.wrlds=1"], "'evaluation.wrlds'"),
        (["evaluation.regret_worlds=500"], "evaluation.regret_worlds"),
    ],
)
def test_bad_configuration_is_exit_code_2_and_one_line_that_names_the_key(
    overrides: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["train.py", *SMOKE, *overrides, f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        train.script()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("experiment", sorted((CONFIG_DIR / "experiment").glob("*.yaml")))
def test_every_experiment_composes_to_a_configuration(experiment: Path) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = compose("train", [f"experiment={experiment.stem}"])
    config, record = load_config(train.plain(composed))
    assert config.agent.kind == record["agent"]["kind"] == "fleet_ppo"


def test_a_rule_alone_is_scored_beside_the_opponent_and_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate.py", "policy=greedy", "experiment=smoke", f"hydra.run.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    evaluate.script()
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert policies(printed) == {"greedy", "hold", summary["opponent"]}
    assert summary["subject"] == ["greedy"]


def test_rules_alone_are_said_to_be_compared_before_it_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise InputError("nothing", "no more of this test", None)

    monkeypatch.setattr(evaluate, "rivals", stop)
    arguments = ["evaluate.py", "experiment=smoke", f"hydra.run.dir={tmp_path}"]
    for more, told in (([], True), (["policy=greedy"], False), (["tune=true"], False)):
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit):
            evaluate.script()
        said = capsys.readouterr().out
        assert said.startswith("comparing the rules alone") == told
        assert ("in 8 worlds of 8 rigs and 48 hours" in said) == told


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")],
)
def test_scoring_that_is_stopped_leaves_no_workers_and_no_warnings(
    sent: signal.Signals, code: int, told: str, tmp_path: Path
) -> None:
    asked = command("evaluate.py", "experiment=smoke", "evaluation.worlds=8192")
    with subprocess.Popen(
        asked,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as job:
        assert job.stdout is not None
        assert any("worlds done" in line for line in job.stdout)  # so the workers are there
        os.killpg(job.pid, sent)  # as a terminal and a job scheduler do
        _, said = job.communicate(timeout=60)  # until the workers, who share it, are gone too
    assert (job.returncode, said) == (code, told)


def test_the_rules_of_a_scenario_can_be_tuned_without_scoring_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate.py", "tune=true", "experiment=smoke", f"hydra.run.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    evaluate.script()
    assert policies(capsys.readouterr().out) == {*RULES, *SHIPPED}
    assert not (tmp_path / "evaluation").exists()


def earlier(folder: Path, seed: int = 0, horizon: int = 48) -> Path:
    """What `run=` reads before it looks for a checkpoint."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("[experiment=smoke]")
    (folder / "config.yaml").write_text(f"seed: {seed}\nhorizon: {horizon}\n")
    return folder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run=nowhere"], "run: expected a run folder"),
        (["run=RUN", "seed=1"], "seed: expected what the run was made with (0) beside run=, got 1"),
        (["run=RUN", "policy=greedy"], "policy: expected not to be given beside run=, got"),
        (["run=RUN", "experiment=smoke"], "experiment: expected not to be given beside run="),
        (["run=RUN", "tune=true"], "tune: expected not to be given beside run="),
        (["policy=gready", "experiment=smoke"], "policy: expected one of hold, greedy"),
    ],
)
def test_evaluate_refuses_what_contradicts_a_run(
    overrides: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = earlier(tmp_path / "run")
    filled = [o.replace("RUN", str(folder)) for o in overrides]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *filled])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        evaluate.script()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped before its first checkpoint was complete."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("unfinished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "validation", stop)
        patch.setattr(sys, "argv", ["train.py", *SMOKE, f"hydra.run.dir={folder}"])
        with pytest.raises(SystemExit):
            train.script()
    (folder / "checkpoints" / ".step_000000000000.draft").mkdir(parents=True)
    return folder


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew_in_place(
    unfinished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(unfinished, tmp_path / "a run")
    begun = []

    def stop(*arguments: object) -> None:
        begun.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stop)
    monkeypatch.setattr(sys, "argv", ["train.py", f"resume={folder}"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train.script()
    assert stopped.value.code == 130
    ((*_, left),) = begun
    assert left is None  # nothing to go on from
    told = f"stopped before the first checkpoint; `python train.py resume='{folder}'` begins anew"
    assert capsys.readouterr().err.splitlines()[-1] == told
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_an_interrupt_while_the_modules_are_imported_is_one_line(
    script: str, tmp_path: Path
) -> None:
    python, *rest = command(script)
    told = [python, "-X", "importtime", *rest]  # a line on stderr for each module, once it is there
    with subprocess.Popen(told, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as job:
        assert job.stderr is not None
        assert any("agents.stopping" in line for line in job.stderr)
        time.sleep(0.2)  # the call that follows; torch alone takes longer
        job.send_signal(signal.SIGINT)
        said = [line for line in job.stderr if not line.startswith("import time:")]
    assert (job.returncode, said) == (130, ["interrupted\n"])


def test_a_refused_job_of_a_sweep_does_not_keep_the_others_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def start(folder: Path, config: dict[str, Any]) -> None:
        ran.append(config["agent"]["gamma"])
        raise InputError("nothing", "no more of this test", folder.name)

    monkeypatch.setattr(train, "start_run", start)
    sweep = ["-m", *SMOKE, "agent.gamma=1.9,0.9,1.8", f"hydra.sweep.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["train.py", *sweep])
    with pytest.raises(SystemExit) as stopped:
        train.script()
    assert stopped.value.code == 2
    assert ran == [0.9]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ["gamma" in line for line in said] == [True, False, True]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resume=nowhere"], "resume: expected a run folder (with config.yaml), got 'nowhere'"),
        (["resume=RUN", "seed=1"], "seed: expected what the run was made with (0) beside resume="),
        (["resume=RUN", "fleet=large"], "fleet: expected what the run was made with ({"),
        (["resume=RUN", "-m"], "-m: expected one run at a time beside resume="),
        (["hydra.run.dir=RUN"], "hydra.run.dir: expected a folder without checkpoints (resume="),
    ],
)
def test_train_goes_on_only_with_the_same_run(
    overrides: list[str],
    message: str,
    unfinished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()  # what the fixture said
    folder = shutil.copytree(unfinished, tmp_path / "run")
    (folder / "checkpoints" / "step_000000000064").mkdir()
    filled = [o.replace("RUN", str(folder)) for o in overrides]
    asked = [] if any(o.startswith("resume") for o in overrides) else [*SMOKE]
    monkeypatch.setattr(sys, "argv", ["train.py", *asked, *filled])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train.script()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_resumed_run_has_its_own_configuration_in_its_own_folder(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "a run's folder", seed=5)
    resumed = resumed_run([f"resume={folder}", "seed=5"])
    assert resumed.folders == (folder,)
    assert resumed.apply({"seed": 0, "horizon": 96}) == {"seed": 5, "horizon": 48}
    assert resumed_run(["resume=null", "seed=5"]).arguments == ["seed=5"]


def test_scoring_elsewhere_changes_only_what_is_asked_and_keeps_the_runs_own_scores(
    tmp_path: Path,
) -> None:
    folder = earlier(tmp_path / "a run's folder", seed=5)
    own = earlier_run([f"run={folder}", "seed=5"])
    assert own.part == Path("evaluation")
    assert own.apply({"seed": 0, "horizon": 96}) == {"seed": 5, "horizon": 48}
    asked = earlier_run([f"run={folder}", "horizon=24"])
    assert asked.arguments[:2] == ["experiment=smoke", "horizon=24"]
    assert asked.apply({"seed": 0, "horizon": 24}) == {"seed": 5, "horizon": 24}
    assert asked.part.parent == Path("evaluation")


def test_runs_that_differ_in_their_seed_are_scored_together_in_a_folder_of_their_own(
    tmp_path: Path,
) -> None:
    folders = [earlier(tmp_path / name, seed) for name, seed in (("a", 3), ("b", 5))]
    both = earlier_run([f"run={folders[0]},{folders[1]}"])
    assert (both.folders, both.seeds) == (tuple(folders), (3, 5))
    assert not any(a.startswith("hydra.run.dir") for a in both.arguments)
    comma = earlier(tmp_path / "one,folder", 1)
    assert earlier_run([f"run={comma}"]).folders == (comma,)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"seed": 3}, "run: expected a different seed in each run"),
        ({"seed": 5, "horizon": 24}, "run: expected runs that differ in their seed alone"),
    ],
)
def test_runs_that_cannot_be_pooled_are_refused(
    second: dict[str, int], message: str, tmp_path: Path
) -> None:
    folders = earlier(tmp_path / "a", 3), earlier(tmp_path / "b", **second)
    with pytest.raises(InputError, match=message):
        earlier_run([f"run={folders[0]},{folders[1]}"])


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_configuration(tmp_path: Path) -> None:
    """setuptools leaves out folders named `env` unless told, and data files unless listed."""
    source = tmp_path / "source"
    for name in ("agents", "configs", "env"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    for pattern in ("agents/**/*.py", "configs/**/*.yaml", "env/**/*.py"):
        ours = {p.relative_to(ROOT) for p in ROOT.glob(pattern)}
        assert ours == {p.relative_to(installed) for p in installed.glob(pattern)}
    look = "import env.catalog as c; print(c.__file__, len(c.load_networks('core')))"
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(installed))
