"""An offline key's signature over a bundle's checksums; `cryptography` is needed here alone."""

from __future__ import annotations

from pathlib import Path

from .errors import BundleError

MOST_BYTES = 65_536  # of a key or signature; both are far smaller


def verify(sums: bytes, signature: Path, public_key: Path) -> None:
    """`BundleError` unless signature is the key's own over these bytes of SHA256SUMS.

    public_key: an Ed25519 key in PEM. signature: its 64 bytes, as
    `openssl pkeyutl -sign -rawin -inkey key.pem -in SHA256SUMS -out bundle.sig` writes them.
    """
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        wanted = "checking a signature needs the package cryptography, which is not installed"
        raise BundleError(wanted) from None
    given, pem = _read(signature, "signature"), _read(public_key, "public key")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{public_key}: not an Ed25519 public key in PEM")
    try:
        key.verify(given, sums)
    except InvalidSignature:
        raise BundleError(f"{signature}: not a signature of this bundle by {public_key}") from None


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: {what} cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise BundleError(f"{path}: too long for a {what}")
    return content
