"""Only an offline key's own signature over the checksums is taken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from handmade import write

from agents.serve.bundle import SUMS, read_bundle
from agents.serve.errors import BundleError
from agents.serve.signature import MOST_BYTES, verify


def key_pair(folder: Path, name: str = "key") -> tuple[Ed25519PrivateKey, Path]:
    """A new key and its public half in a file."""
    key = Ed25519PrivateKey.generate()
    public = folder / f"{name}.pem"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return key, public


def refused(sums: bytes, signature: Path, public: Path) -> str:
    with pytest.raises(BundleError) as caught:
        verify(sums, signature, public)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_keys_own_signature_is_taken_and_any_other_is_not(tmp_path: Path) -> None:
    (key, public), (other, others) = key_pair(tmp_path), key_pair(tmp_path, "other")
    sums = read_bundle(write(tmp_path / "bundle")).sums
    signature = tmp_path / "bundle.sig"
    signature.write_bytes(key.sign(sums))
    verify(sums, signature, public)
    assert "not a signature of this bundle" in refused(sums, signature, others)
    assert "not a signature of this bundle" in refused(sums + b"\n", signature, public)
    signature.write_bytes(other.sign(sums))
    assert "not a signature of this bundle" in refused(sums, signature, public)


def test_a_signature_with_any_bit_flipped_is_refused(tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    good = key.sign(sums := b"sums")
    signature = tmp_path / "sig"
    for bit in range(512):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        signature.write_bytes(bad)
        refused(sums, signature, public)
    for other in (b"", good[:-1], good + b"\n", good.hex().encode()):
        signature.write_bytes(other)
        refused(sums, signature, public)


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    signature = tmp_path / "sig"
    signature.write_bytes(key.sign(b"sums"))
    other = rsa.generate_private_key(65537, 2048).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (pem, b"", b"-----BEGIN PUBLIC KEY-----\n", public.read_bytes()[:60], b"\xff"):
        public.write_bytes(content)
        assert "not an Ed25519 public key in PEM" in refused(b"sums", signature, public)


def test_files_that_cannot_be_read_or_are_too_long_are_refused(tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    signature = tmp_path / "sig"
    assert "signature cannot be read" in refused(b"sums", signature, public)
    signature.write_bytes(key.sign(b"sums"))
    assert "public key cannot be read" in refused(b"sums", signature, tmp_path)
    signature.write_bytes(bytes(MOST_BYTES + 1))
    assert "too long for a signature" in refused(b"sums", signature, public)


def test_the_lack_of_cryptography_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)  # as if not installed
    said = refused(b"sums", tmp_path / "sig", tmp_path / "pem")
    assert "package cryptography, which is not installed" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")
def test_what_openssl_signs_is_taken(tmp_path: Path) -> None:
    """Oracle: openssl, with the commands of the documentation."""
    folder = write(tmp_path / "bundle")
    for command in (
        "openssl genpkey -algorithm ed25519 -out key.pem",
        "openssl pkey -in key.pem -pubout -out pub.pem",
        f"openssl pkeyutl -sign -rawin -inkey key.pem -in bundle/{SUMS} -out bundle.sig",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    verify(read_bundle(folder).sums, tmp_path / "bundle.sig", tmp_path / "pub.pem")
