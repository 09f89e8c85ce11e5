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

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_PARTS = {  # fields of each message that hold a message which matters here
    "model": {7: "graph", 8: "operators"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
}
_REFUSED = {  # what the exporter never writes, and where a file could reach out or run long
    ("model", 20): "a training graph",
    ("model", 25): "functions",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "a graph in a graph",
    ("attribute", 11): "graphs in a graph",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "data outside the file",
    ("tensor", 14): "data outside the file",
}
_DOMAINS = {("operators", 1), ("node", 7)}
_STANDARD = (b"", b"ai.onnx")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8}
_BITS |= {"U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}


def check_onnx(model: bytes, name: str) -> None:
    """`BundleError` unless the model is whole in itself: standard operators, no outside data, no
    functions and no graph within its graph (so no loop)."""
    try:
        _walk(memoryview(model), name)
    except (IndexError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{name}: not an ONNX model ({error})") from None


def _walk(model: memoryview, name: str) -> None:
    waiting = [("model", model)]
    graphs = 0
    while waiting:
        kind, message = waiting.pop()
        graphs += kind == "graph"
        parts = _PARTS.get(kind, {})
        for number, wire, value in _fields(message):
            if (kind, number) in _REFUSED and not (wire == _VARINT and value == 0):
                raise BundleError(f"{name}: holds {_REFUSED[kind, number]}")
            if number not in parts and (kind, number) not in _DOMAINS:
                continue
            if not isinstance(value, memoryview):
                raise ValueError(f"wire type {wire} of field {number} of a {kind}")
            if number in parts:
                waiting.append((parts[number], value))
            elif value not in _STANDARD:
                domain = ascii(bytes(value[:40]))
                raise BundleError(f"{name}: operators of another domain than ONNX's: {domain}")
    if graphs != 1:
        raise ValueError(f"{graphs} graphs")


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of each field of a message."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        if tag >> 32:  # a parser that keeps 32 bits would see another field
            raise ValueError("a field number of more than 29 bits")
        wire = tag & 7
        value: int | memoryview
        if wire == _VARINT:
            value, at = _varint(message, at)
        else:
            if wire == _BYTES:
                size, at = _varint(message, at)
            elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
                size = 8 if wire == _EIGHT_BYTES else 4
            else:
                raise ValueError(f"wire type {wire}")
            value, at = message[at : at + size], at + size
            if at > end:
                raise ValueError("cut short")
        yield tag >> 3, wire, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = message[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = message[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
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
