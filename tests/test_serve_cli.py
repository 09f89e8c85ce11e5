"""`python -m agents.serve`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from served import recorded

from agents.serve import __main__ as cli

ROOT = Path(__file__).parent.parent


def serve(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agents.serve", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT)


def test_check_says_what_was_checked(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "HOURS", 20)
    assert cli.main(["check", str(bundle)]) == 0
    said = capsys.readouterr().out
    for part in ("SHA256SUMS", "orders replayed", "64 rigs x 16 networks: p50", "p99"):
        assert part in said


def test_check_refuses_a_changed_bundle_with_exit_code_1(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    (copy / "MODEL_CARD.md").write_text("better")
    assert cli.main(["check", str(copy)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: MODEL_CARD.md")
    assert said.err.count("\n") == 1


def test_decide_reads_a_snapshot_and_prints_the_decision(bundle: Path, tmp_path: Path) -> None:
    first = recorded(bundle)[0]
    ended = serve("decide", bundle, "--now", first["time"], given=json.dumps(first))
    assert ended.returncode == 0
    decision = json.loads(ended.stdout)
    assert {move["rig"] for move in decision["moves"]} | {*decision["holds"]} == {*first["rigs"]}
    for line in ended.stderr.splitlines():
        json.loads(line)


def test_decide_remembers_in_the_state_folder(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = []
    for hour in recorded(bundle)[1:3]:
        file = tmp_path / "snapshot.json"
        file.write_text(json.dumps(hour))
        command = ["decide", str(bundle), str(file), "--now", hour["time"]]
        assert cli.main([*command, "--state-dir", str(tmp_path / "state")]) == 0
        reasons.append(json.loads(capsys.readouterr().out)["reason"])
    assert "first snapshot" in reasons[0]
    assert "first snapshot" not in reasons[1]


def test_the_snapshot_comes_before_or_after_the_options(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, first = tmp_path / "snapshot.json", recorded(bundle)[0]
    file.write_text(json.dumps(first))
    said = []
    for k in range(3):
        given = ["--now", first["time"], "--state-dir", str(tmp_path / str(k))]
        given.insert((0, 2, 4)[k], str(file))
        assert cli.main(["decide", str(bundle), *given]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]


def test_an_operators_guardrails_come_from_yaml(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, limits = tmp_path / "snapshot.json", tmp_path / "limits.yaml"
    first = recorded(bundle)[0]
    file.write_text(json.dumps(first))
    limits.write_text("max_novelty: 0\ndeny: [akash]\n")
    command = ["decide", str(bundle), str(file), "--now", first["time"]]
    assert cli.main([*command, "--guardrails", str(limits)]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "rule"


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("max_novelty: far", "guardrails.max_novelty"),
        ("max_novelti: 1", "guardrails.max_novelti"),
        ("- 1", "names and values"),
        (
            "a: 1\nb: [",
            "a file in YAML, got expected the node content, but found '<stream end>' in line 2",
        ),
        (
            "a: 1\n\tb: 2",
            "a file in YAML, got found character '\\t' that cannot start any token in line 2",
        ),
        ("min_dwell_h: 1" + 400 * "0", "guardrails.min_dwell_h"),
        ("min_dwell_h: 1" + 5000 * "0", "a file in YAML"),
        ("deny: [a]\nmin_dwell_h: 1\ndeny: [b]", "each key once, got 'deny' again in line 3"),
        ("max_network_rigs: {a: 1, b: 2, 'a': 3}", "each key once, got 'a' again in line 1"),
        ("a: 2026-13-45", "guardrails.a"),
        ("a: !!timestamp x", "a file in YAML"),
        ("a: !!bool x", "a file in YAML"),
        ("!!python/object/apply:os.system [exit]", "a file in YAML"),
        (None, "a file that can be read"),
    ],
)
def test_wrong_guardrails_are_one_line_and_exit_code_2(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    yaml: str | None,
    words: str,
) -> None:
    limits = tmp_path / "limits.yaml"
    if yaml is not None:
        limits.write_text(yaml)
    assert cli.main(["check", str(bundle), "--guardrails", str(limits)]) == 2
    _one_line(capsys, words)


@pytest.mark.parametrize(
    ("snapshot", "now", "words"),
    [
        ("{", None, "snapshot: expected JSON"),
        ('{"schema": 1}', None, "time: expected"),
        (None, None, "a file that can be read"),
        ("{}", "today", "--now: expected a time"),
        ("{}", "2026-01-01", "--now: expected a time"),
    ],
)
def test_a_wrong_snapshot_or_clock_is_one_line_and_exit_code_2(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    snapshot: str | None,
    now: str | None,
    words: str,
) -> None:
    file = tmp_path / "snapshot.json"
    if snapshot is not None:
        file.write_text(snapshot)
    clock = [] if now is None else ["--now", now]
    assert cli.main(["decide", str(bundle), str(file), *clock]) == 2
    _one_line(capsys, words)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["check"],
        ["check", "a", "--port", "1"],
        ["check", "a", "--public-key", "b", "c"],
        ["decide", "a", "b", "--now", "today", "c"],
        ["decide", "a", "--now", "today", "b", "c"],
        ["decide", "a", "--now", "today", "--other"],
        ["decide", "a", "--other", "b"],
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    _one_line(capsys, "error: ")


def test_a_signature_needs_a_key(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(bundle), "--signature", "x.sig"]) == 2
    _one_line(capsys, "signature: expected a public key")


def _one_line(capsys: pytest.CaptureFixture[str], words: str) -> None:
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_answer_that_cannot_be_written_is_one_line_and_no_fault_of_the_bundle(
    bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps(recorded(bundle)[0]))
    command = [sys.executable, "-m", "agents.serve", "decide", str(bundle), str(file)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: stdout: expected somewhere to write to")
    assert "Traceback" not in done.stderr


def test_whoever_stops_reading_gets_one_line_and_no_traceback(bundle: Path) -> None:
    command = [sys.executable, "-m", "agents.serve", "check", str(bundle)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as checking:
        assert checking.stdout is not None
        assert checking.stderr is not None
        assert checking.stdout.readline().startswith("bundle")
        checking.stdout.close()
        said = checking.stderr.read()
    assert checking.returncode == 2
    assert said == "error: stdout: expected somewhere to write to, got 'Broken pipe'\n"
