"""What the bytes of a model and of its weights must look like before anything reads them.

Both are walked by hand, without running or allocating what they describe. Sources: the wire format
of Protocol Buffers (protobuf.dev/programming-guides/encoding), `onnx.proto` of ONNX 1.23 for the
field numbers, and the format section of the README of huggingface/safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from .document import load
from .errors import BundleError, FieldError

_VARINT, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # bytes of the other two
_PARTS = {  # fields of each message that hold a message which matters here
    "model": {7: "graph", 8: "operators"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
}
_REFUSED = {  # what the exporter never writes, and where a file could reach out or run long
    "model": {20: "a training graph", 25: "functions"},
    "graph": {15: "sparse tensors"},
    "attribute": {
        6: "a graph in a graph",
        11: "a graph in a graph",
        22: "sparse tensors",
        23: "sparse tensors",
    },
    "tensor": {13: "data outside the file", 14: "data outside the file"},
}
_DOMAINS = {"operators": 1, "node": 7}  # the field that names where an operator comes from
_STANDARD = (b"", b"ai.onnx")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8}
_BITS |= {"U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}


def check_onnx(model: bytes, name: str) -> None:
    """`BundleError` unless the model is whole in itself: standard operators, no outside data, no
    functions and no graph within its graph (so no loop)."""
    try:
        _walk(model, name)
    except (IndexError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{name}: not an ONNX model ({error})") from None


def _walk(model: bytes, name: str) -> None:
    waiting = [("model", 0, len(model))]
    graphs = 0
    while waiting:
        kind, begin, end = waiting.pop()
        graphs += kind == "graph"
        parts, refused, domain = _PARTS.get(kind, {}), _REFUSED.get(kind, {}), _DOMAINS.get(kind)
        for number, wire, start, stop in _fields(model, begin, end):
            if number in refused and not (wire == _VARINT and model[start:stop] == b"\0"):
                raise BundleError(f"{name}: holds {refused[number]}")
            if number not in parts and number != domain:
                continue
            if wire != _BYTES:
                raise ValueError(f"wire type {wire} of field {number} of a {kind}")
            if number in parts:
                waiting.append((parts[number], start, stop))
            elif model[start:stop] not in _STANDARD:
                foreign = ascii(model[start:stop][:40])
                raise BundleError(f"{name}: operators of another domain than ONNX's: {foreign}")
    if graphs != 1:
        raise ValueError(f"{graphs} graphs")


def _fields(model: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the value begins and ends, of each field of a message."""
    while at < end:
        tag, at = (model[at], at + 1) if model[at] < 0x80 else _varint(model, at)
        if tag >> 32:  # a parser that keeps 32 bits would see another field
            raise ValueError("a field number of more than 29 bits")
        wire, start = tag & 7, at
        if wire == _BYTES:
            size, start = (model[at], at + 1) if model[at] < 0x80 else _varint(model, at)
            at = start + size
        elif wire == _VARINT:
            at = at + 1 if model[at] < 0x80 else _varint(model, at)[1]
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("cut short")
        yield tag >> 3, wire, start, at


def _varint(model: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def check_safetensors(weights: bytes, name: str) -> None:
    """`BundleError` unless a JSON header describes every byte that follows it as plain numbers."""
    try:
        _check_weights(weights)
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{name}: not in the safetensors format ({error})") from None


def _check_weights(weights: bytes) -> None:
    size = int.from_bytes(weights[:8], "little")
    if len(weights) < 8 or size > len(weights) - 8 or weights[8:9] != b"{":
        raise ValueError("no header in JSON")
    header = load(weights[8 : 8 + size], "header")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError("__metadata__ is not texts by name")
    at = 0
    for begin, end in sorted(_extent(key, entry) for key, entry in header.items()):
        if begin != at:
            raise ValueError(f"bytes {at} to {begin} belong to no tensor or to two")
        at = end
    if at != len(weights) - 8 - size:
        raise ValueError(f"{len(weights) - 8 - size} bytes of data, {at} described")


def _extent(key: str, entry: Any) -> tuple[int, int]:
    """First byte of a tensor and the one after its last, which must suit its type and shape."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FieldError(key, "dtype, shape and data_offsets", entry)
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise FieldError(key, "whole numbers", entry)
    if (end - begin) * 8 != prod(shape) * _BITS[entry["dtype"]]:
        raise FieldError(key, "as many bytes as its shape takes", entry)
    return begin, end
