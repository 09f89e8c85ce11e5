"""A bundle is read as its maker wrote it, to the byte, or not at all."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import handmade
import pytest
from handmade import golden, manifest, refused, sums, write

from agents.serve import bundle as module
from agents.serve.bundle import FILES, SUMS, read_bundle
from agents.serve.errors import BundleError
from agents.serve.model import Model
from agents.serve.snapshot import parse

EVERY = (*FILES, SUMS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle")


def test_a_bundle_is_read_as_it_was_written(folder: Path) -> None:
    content = handmade.files()
    found = read_bundle(folder)
    assert found.manifest == manifest()
    assert found.golden == golden()
    assert found.schema == {}
    assert found.model == content["policy.onnx"]
    assert found.sums == sums(content)
    assert read_bundle(str(folder)).digest == found.digest


def test_an_exported_bundle_is_read(bundle: Path) -> None:
    found = read_bundle(bundle)
    Model(found.model)
    for sequence in found.golden["sequences"]:
        for hour in sequence["hours"]:
            parse(hour["snapshot"], found.columns)


# -- every byte is vouched for --------------------------------------------------------------------


def check_flips(folder: Path, copy: Path, places: int) -> None:
    """Each single-bit flip at random places of each file is refused."""
    rng = random.Random(10)
    for name in EVERY:
        content = (folder / name).read_bytes()
        with (copy / name).open("r+b", buffering=0) as file:
            for _ in range(places):
                at = rng.randrange(len(content))
                os.pwrite(file.fileno(), bytes([content[at] ^ 1 << rng.randrange(8)]), at)
                assert name in refused(copy)
                os.pwrite(file.fileno(), content[at : at + 1], at)
    read_bundle(copy)


def test_a_flipped_bit_anywhere_is_refused(folder: Path, tmp_path: Path) -> None:
    check_flips(folder, write(tmp_path / "copy"), 1000)


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_an_exported_bundle_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in EVERY:
        (copy / name).write_bytes((bundle / name).read_bytes())
    check_flips(bundle, copy, 200)


@pytest.mark.parametrize("name", EVERY)
def test_a_file_cut_short_longer_empty_or_missing_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for other in (
        b"",
        content[:-1],
        content + b"\n",
        content + b"\0",
        content[: len(content) // 2],
    ):
        if other != content:
            (folder / name).write_bytes(other)
            refused(folder)
    (folder / name).unlink()
    assert refused(folder) == f"{name}: missing"


def test_swapped_files_are_refused(folder: Path) -> None:
    for a, b in itertools.combinations(EVERY, 2):
        first, second = (folder / a).read_bytes(), (folder / b).read_bytes()
        (folder / a).write_bytes(second)
        (folder / b).write_bytes(first)
        refused(folder)
        (folder / a).write_bytes(first)
        (folder / b).write_bytes(second)
    read_bundle(folder)


@pytest.mark.parametrize(
    "other",
    [
        lambda s: s.replace(b"\n", b"\r\n"),
        lambda s: s.upper(),
        lambda s: s[:64].upper() + s[64:],
        lambda s: s.replace(b"  ", b" "),
        lambda s: s.replace(b"  ", b" *"),
        lambda s: s.rstrip(b"\n"),
        lambda s: s + b"\n",
        lambda s: b"\xef\xbb\xbf" + s,
        lambda s: s + s.splitlines(True)[0],
        lambda s: b"".join(reversed(s.splitlines(True))),
        lambda s: s + b"0" * 64 + b"  SHA256SUMS\n",
        lambda s: s + b"0" * 64 + b"  ../outside\n",
        lambda s: b"# a remark\n" + s,
        lambda s: s.replace(b"policy.onnx", b"./policy.onnx"),
    ],
    ids=itertools.count(),
)
def test_checksums_written_in_any_other_way_are_refused(
    folder: Path, other: Callable[[bytes], bytes]
) -> None:
    (folder / SUMS).write_bytes(other((folder / SUMS).read_bytes()))
    assert SUMS in refused(folder)


# -- nothing but regular files of a folder --------------------------------------------------------


@pytest.mark.parametrize("name", ["extra", ".hidden", "policy.ONNX", "a\nb", "x" * 200, "\udcff"])
def test_a_file_more_is_refused_and_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert refused(folder) == f"{name!a}: not a file of a bundle"


def test_a_name_in_another_case_is_refused(folder: Path) -> None:
    (folder / "MODEL_CARD.md").rename(folder / "model_card.md")
    assert "model_card.md" in refused(folder)


def test_a_folder_in_the_folder_is_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    assert "'more'" in refused(folder)
    (folder / "more").rename(folder / "policy.onnx.d")
    (folder / "policy.onnx").unlink()
    (folder / "policy.onnx.d").rename(folder / "policy.onnx")
    assert refused(folder) == "policy.onnx: not a regular file"


@pytest.mark.parametrize("name", EVERY)
def test_a_link_a_pipe_or_a_socket_in_place_of_a_file_is_refused(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)  # the very bytes, but not in the folder
    assert refused(folder) == f"{name}: not a regular file"
    (folder / name).unlink()
    os.mkfifo(folder / name)  # nobody writes: to open it for reading would wait for ever
    assert refused(folder) == f"{name}: not a regular file"
    (folder / name).unlink()
    monkeypatch.chdir(folder)  # a socket's path may be no longer than a hundred bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        assert refused(folder) == f"{name}: not a regular file"


def test_a_link_put_in_between_look_and_opening_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((folder / "policy.onnx").read_bytes())
    look = module._check_regular

    def then_swap(mode: int, name: str) -> None:
        look(mode, name)
        if name == "policy.onnx":
            (folder / name).unlink()
            (folder / name).symlink_to(outside)

    monkeypatch.setattr(module, "_check_regular", then_swap)
    assert "policy.onnx: cannot be read" in refused(folder)


def test_a_link_to_the_folder_is_refused_and_so_is_what_is_no_folder(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "link", folder / "policy.onnx", tmp_path / "none", Path("/dev/null")):
        assert "not a folder that can be read" in refused(path)
    with pytest.raises(BundleError, match="not a folder"):
        read_bundle("a\0b")


def test_a_file_beyond_the_limit_is_refused_before_it_fills_memory(folder: Path) -> None:
    with (folder / "golden.json").open("r+b") as file:
        file.truncate(2**40)  # sparse: no disk is used
    assert "golden.json: longer than" in refused(folder)
