"""Weights as safetensors: numbers and their shapes, from which nothing can be run. Every byte is accounted for first.

The header is held to what the one network has before the library sees it: these tensors, float32, shapes that fit
each other, data that tiles the rest of the file. So a file says one thing, or it is refused.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from infra.models.refusals import ArtefactRefused, Refusal

WEIGHTS_BYTES_MAX: Final = 8 * 1024 * 1024
HEADER_BYTES_MAX: Final = 16 * 1024
DIMENSION_MAX: Final = 4096
TARGETS: Final = 5
"""Rows of the head: a Q for each of the targets -1, -0.5, 0, 0.5, 1."""
Weights = Mapping[str, NDArray[np.float32]]

_SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "phi.0.weight": ("phi 0", "votes"),
    "phi.0.bias": ("phi 0",),
    "phi.1.weight": ("phi 1", "phi 0"),
    "phi.1.bias": ("phi 1",),
    "rho.0.weight": ("rho 0", "joined"),
    "rho.0.bias": ("rho 0",),
    "rho.1.weight": ("rho 1", "rho 0"),
    "rho.1.bias": ("rho 1",),
    "head.weight": ("targets", "rho 1"),
    "head.bias": ("targets",),
    "votes.mean": ("votes",),
    "votes.scale": ("votes",),
    "context.mean": ("context",),
    "context.scale": ("context",),
}
"""Tensor -> what each of its dimensions is; the same word is the same number everywhere."""

_LENGTH_BYTES: Final = 8
_FLOAT32: Final = "F32"
_FLOAT32_BYTES: Final = 4
_PICKLES: Final = (b"\x80", b"PK\x03\x04", b"\x1f\x8b", b"(", b"c", b"]", b"}")
"""How pickles begin: by their protocol, inside a zip (torch) or gzip (joblib), or by an opcode of protocol 0 or 1."""


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=1, le=DIMENSION_MAX)], ...]
    data_offsets: tuple[
        Annotated[int, msgspec.Meta(ge=0, le=WEIGHTS_BYTES_MAX)],
        Annotated[int, msgspec.Meta(ge=0, le=WEIGHTS_BYTES_MAX)],
    ]


def weights_bytes(weights: Weights) -> bytes:
    """Return weights as safetensors. Raises ArtefactRefused for what could not be read again."""
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    content: bytes = safetensors.numpy.save(arrays)
    parsed_weights(content)
    return content


def refuse_pickle(content: bytes) -> None:
    """Raise ArtefactRefused (PICKLE) for what cannot be safetensors and begins as a pickle does. Nothing is parsed."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if length <= HEADER_BYTES_MAX and content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{":
        return
    if content.startswith(_PICKLES):
        raise ArtefactRefused(Refusal.PICKLE, "the weights begin as a pickle does, and none is ever loaded")


def parsed_weights(content: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a safetensors file, read-only. Raises ArtefactRefused."""
    tensors, data_bytes = _header(content)
    _refuse_other_tensors(tensors)
    _refuse_other_shapes({name: tensor.shape for name, tensor in tensors.items()})
    _refuse_other_layout(tensors, data_bytes)
    weights: dict[str, NDArray[np.float32]] = safetensors.numpy.load(content)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ArtefactRefused(Refusal.NOT_FINITE, f"{name} holds a value that is not finite")
        array.flags.writeable = False
    for name in ("votes.scale", "context.scale"):
        if not (weights[name] > 0).all():
            raise ArtefactRefused(Refusal.NOT_FINITE, f"{name} holds a scale that is not above 0")
    return weights


def _header(content: bytes) -> tuple[dict[str, _Tensor], int]:
    """Return the tensors of the header, and how many bytes of data follow it."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    data_bytes = len(content) - _LENGTH_BYTES - length
    if len(content) < _LENGTH_BYTES or not 0 < length <= HEADER_BYTES_MAX or data_bytes < 0:
        raise ArtefactRefused(Refusal.BAD_HEADER, f"the weights have no header of at most {HEADER_BYTES_MAX} bytes")
    header = content[_LENGTH_BYTES : _LENGTH_BYTES + length]
    try:
        tensors = msgspec.json.decode(header, type=dict[str, _Tensor])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        told = ascii(str(error)[:160])[1:-1]
        raise ArtefactRefused(Refusal.BAD_HEADER, f"the weights' header cannot be read: {told}") from error
    written = msgspec.json.encode(tensors)
    if header != written + b" " * (-len(written) % _LENGTH_BYTES):
        raise ArtefactRefused(Refusal.BAD_HEADER, "the weights' header is not in its one form: keys twice, or spaces")
    return tensors, data_bytes


def _refuse_other_tensors(tensors: Mapping[str, _Tensor]) -> None:
    if tensors.keys() != _SHAPES.keys():
        wrong = sorted(tensors.keys() ^ _SHAPES.keys())[0]
        which = "is missing" if wrong in _SHAPES else "is none that is known"
        raise ArtefactRefused(Refusal.WRONG_TENSORS, f"the tensor {wrong[:80]!a} {which}")
    for name, tensor in tensors.items():
        if tensor.dtype != _FLOAT32:
            raise ArtefactRefused(Refusal.WRONG_DTYPE, f"{name} is {tensor.dtype[:20]!a}, not {_FLOAT32}")


def _refuse_other_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    sizes = {"targets": TARGETS}
    for name, dimensions in _SHAPES.items():
        shape = shapes[name]
        if len(shape) != len(dimensions):
            raise ArtefactRefused(Refusal.WRONG_SHAPE, f"{name} has {len(shape)} dimensions, not {len(dimensions)}")
        for dimension, size in zip(dimensions, shape, strict=True):
            if sizes.setdefault(dimension, size) != size:
                told = f"{name} has the shape {shape}, but {dimension!r} is {sizes[dimension]}"
                raise ArtefactRefused(Refusal.WRONG_SHAPE, told)
    joined = 2 * sizes["phi 1"] + sizes["context"]
    if sizes["joined"] != joined:
        raise ArtefactRefused(Refusal.WRONG_SHAPE, f"rho.0.weight reads {sizes['joined']} numbers, not {joined}")


def _refuse_other_layout(tensors: Mapping[str, _Tensor], data_bytes: int) -> None:
    """Refuse data that overlaps, leaves a gap, or is not the rest of the file."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if begin != at or end - begin != _FLOAT32_BYTES * math.prod(tensor.shape):
            raise ArtefactRefused(Refusal.BAD_HEADER, f"the data of {name} is not where and as long as it has to be")
        at = end
    if at < data_bytes:
        raise ArtefactRefused(Refusal.BAD_HEADER, f"{data_bytes - at} bytes of the weights belong to no tensor")
    if at > data_bytes:
        raise ArtefactRefused(Refusal.TRUNCATED, f"the weights end {at - data_bytes} bytes early")
