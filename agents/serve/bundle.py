"""A bundle folder as its maker wrote it, read once and checked before anything in it is used."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from .accounting import Rule
from .catalog import read_columns
from .columns import LARGEST, OFF, Columns
from .document import check_keys, entries, is_name, join, load, number
from .errors import BundleError, FieldError
from .formats import check_onnx, check_safetensors
from .limits import settings

SUMS = "SHA256SUMS"
FILES = (  # every file that SHA256SUMS lists, sorted as there
    "MODEL_CARD.md",
    "golden.json",
    "manifest.json",
    "policy.onnx",
    "policy.safetensors",
    "snapshot.schema.json",
)
SCHEMA = 1
UNCLEAR = "?"  # in golden.json, in place of an order that is not compared
MOST_BYTES = 128 * 2**20  # of one file; assumption, ours take under 1 MiB
_MANIFEST = (
    *("schema", "bundle", "created", "columns", "averages", "catalog", "rule", "guardrails"),
    *("training", "policy", "scores", "parity", "provenance"),
)
_RANGES = ("fleet", "any", "networks")  # of the manifest's `training`
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a bundle holds; every byte of it was hashed before it was read."""

    path: Path
    manifest: dict[str, Any]
    golden: dict[str, Any]  # recorded cases: {"sequences": [{"hours": [...]}]}
    schema: dict[str, Any]  # JSON Schema of a snapshot
    model: bytes  # ONNX
    sums: bytes  # the file SHA256SUMS, what a signature is over
    digest: str  # SHA-256 of that, in hex: names the bundle as a whole
    columns: Columns  # the manifest's, compiled

    @property
    def decides(self) -> str:
        """SHA-256, in hex, of what decides: the model, the rule, the catalogue that both read, and
        the training ranges, beyond which the rule does. An export of the same again differs in its
        dates and code only. Guardrails bind the policy and the rule alike."""
        training = {key: self.manifest["training"][key] for key in _RANGES}
        parts = json.dumps(
            (self.manifest["rule"], self.manifest["catalog"], training), sort_keys=True
        )
        return sha256(sha256(self.model).digest() + parts.encode()).hexdigest()


def read_bundle(path: Path | str) -> Bundle:
    """Read and check a bundle folder; `BundleError` says in one line what is wrong with it.

    Refused: any file more or less, anything but regular files (the folder itself included: no
    link anywhere), a byte that SHA256SUMS does not vouch for, a manifest, recorded case, model or
    weights that this code would not read as they are meant.
    """
    folder = Path(path)
    files = _read_folder(folder)
    sums = files.pop(SUMS)
    _check_sums(files, sums)
    try:
        manifest = _json(files, "manifest.json")
        columns = _check_manifest(manifest)
        golden = _json(files, "golden.json")
        _check_golden(golden)
        schema = _json(files, "snapshot.schema.json")
        files["MODEL_CARD.md"].decode()
    except FieldError as error:
        raise BundleError(str(error)) from None
    except OverflowError:
        raise BundleError("manifest.json: a number beyond any float") from None
    except UnicodeDecodeError:
        raise BundleError("MODEL_CARD.md: not UTF-8") from None
    check_safetensors(files["policy.safetensors"], "policy.safetensors")
    model = files["policy.onnx"]
    check_onnx(model, "policy.onnx")
    digest = sha256(sums).hexdigest()
    return Bundle(folder, manifest, golden, schema, model, sums, digest, columns)


def _read_folder(path: Path) -> dict[str, bytes]:
    """The bytes of each file of the folder, which must hold exactly those of a bundle."""
    try:
        folder = os.open(path, _FOLDER)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else error
        raise BundleError(
            f"{path}: not a folder that can be read, links not followed ({why})"
        ) from None
    try:
        wanted = {*FILES, SUMS}
        found = set(os.listdir(folder))
        for name in sorted(found - wanted):
            raise BundleError(f"{name!a}: not a file of a bundle")
        for name in sorted(wanted - found):
            raise BundleError(f"{name}: missing")
        return {name: _read_file(folder, name) for name in sorted(wanted)}
    finally:
        os.close(folder)


def _read_file(folder: int, name: str) -> bytes:
    """The bytes of a regular file in an open folder, through one descriptor and without links."""
    try:
        # Looked at before it is opened, for to open a device may do something.
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode, name)
        descriptor = os.open(name, _FILE, dir_fd=folder)
        with open(descriptor, "rb", buffering=0) as file:
            _check_regular(os.fstat(descriptor).st_mode, name)
            content = bytearray()
            while len(content) <= MOST_BYTES and (part := file.read(2**16)):
                content += part
    except OSError as error:
        raise BundleError(f"{name}: cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise BundleError(f"{name}: longer than {MOST_BYTES} bytes")
    return bytes(content)


def _check_regular(mode: int, name: str) -> None:
    if not stat.S_ISREG(mode):
        raise BundleError(f"{name}: not a regular file")


def _check_sums(files: dict[str, bytes], sums: bytes) -> None:
    """SHA256SUMS must be, to the byte, what the files say."""
    lines = [f"{sha256(files[name]).hexdigest()}  {name}\n".encode() for name in FILES]
    for name, line in zip(FILES, lines, strict=True):
        if line not in sums:
            raise BundleError(f"{name}: {SUMS} does not hold its SHA-256 ({line[:8].decode()}...)")
    if b"".join(lines) != sums:
        raise BundleError(f"{SUMS}: more than one line for each file, or not in order of name")


def _json(files: dict[str, bytes], name: str) -> dict[str, Any]:
    return entries(load(files[name], name, finite=True), name)


def _check_manifest(manifest: dict[str, Any]) -> Columns:
    """`FieldError` or `BundleError` at the first part that serving could not use as it is."""
    check_keys(manifest, "manifest.json", _MANIFEST, _MANIFEST)
    if type(manifest["schema"]) is not int or manifest["schema"] != SCHEMA:
        raise FieldError("manifest.json.schema", str(SCHEMA), manifest["schema"])
    for key in ("bundle", "created"):
        if not is_name(manifest[key]):
            raise FieldError(join("manifest.json", key), "a short text", manifest[key])
    for key in ("rule", "guardrails", "training", "policy", "scores", "parity", "provenance"):
        entries(manifest[key], join("manifest.json", key))
    try:
        Rule.read(manifest["rule"])
        settings(manifest["guardrails"])
    except FieldError as error:
        raise BundleError(f"manifest.json: {error}") from None
    return read_columns(manifest)


def _check_golden(golden: dict[str, Any]) -> None:
    """Recorded cases must give every rig an order, and at least one that can be compared."""
    check_keys(golden, "golden.json", ("sequences",), ("sequences",))
    clear = 0
    for k, sequence in enumerate(_listed(golden["sequences"], "golden.json.sequences")):
        path = f"golden.json.sequences.{k}"
        check_keys(entries(sequence, path), path, ("hours",), ("hours",))
        for h, hour in enumerate(_listed(sequence["hours"], join(path, "hours"))):
            clear += _check_hour(hour, f"{path}.hours.{h}")
    if not clear:
        raise FieldError("golden.json", "an order to compare", f"none but {UNCLEAR}")


def _check_hour(hour: Any, path: str) -> int:
    """How many orders of a recorded hour can be compared."""
    fields = ("dt_h", "snapshot", "orders")
    check_keys(entries(hour, path), path, fields, fields)
    number(hour["dt_h"], join(path, "dt_h"), 0, LARGEST, "h")
    here = join(path, "snapshot")
    snapshot = entries(hour["snapshot"], here)
    check_keys(snapshot, here, snapshot, ("rigs", "networks"))
    rigs, networks = (entries(snapshot[k], join(here, k)) for k in ("rigs", "networks"))
    orders = entries(hour["orders"], join(path, "orders"))
    check_keys(orders, join(path, "orders"), rigs, rigs)
    for rig, order in orders.items():
        named = isinstance(order, str) and (order in networks or order in (OFF, UNCLEAR))
        if not (order is None or named):
            wanted = f"a network of the snapshot, {OFF}, null or {UNCLEAR}"
            raise FieldError(join(join(path, "orders"), rig), wanted, order)
    return sum(order != UNCLEAR for order in orders.values())


def _listed(value: Any, path: str) -> list[Any]:
    if not (isinstance(value, list) and value):
        raise FieldError(path, "a list of at least one", value)
    return value
