"""Artefacts of models: weights, spec and a signed manifest, found by a digest; written once and never believed.

The address of an artefact is the sha256 of its manifest, and the manifest names the sha256 of the rest. So whoever
has the address has everything, to the byte; who made it, the Ed25519 signature says. Nothing is parsed before it has
been held against its digest and its signature, and nothing at all is unpickled.
"""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from infra.models.files import read_members
from infra.models.keys import AllowedKeys
from infra.models.refusals import ArtefactRefused, Refusal
from infra.models.spec import SPEC_BYTES_MAX, ArtefactSpec, parsed_spec, spec_bytes
from infra.models.weights import WEIGHTS_BYTES_MAX, Weights, parsed_weights, refuse_pickle, weights_bytes
from infra.people import PersonalKey, is_signed_by

__all__ = ["Artefact", "ArtefactRefused", "ArtefactSpec", "Refusal", "is_address", "read_artefact", "write_artefact"]

FORMAT: Final = "tradermind.model.1"
WEIGHTS_NAME: Final = "weights.safetensors"
SPEC_NAME: Final = "spec.json"
MANIFEST_NAME: Final = "manifest.json"
_LIMITS: Final = {MANIFEST_NAME: 4096, SPEC_NAME: SPEC_BYTES_MAX, WEIGHTS_NAME: WEIGHTS_BYTES_MAX}
_SIGNED: Final = b"tradermind model 1\n"
_HEX: Final = frozenset("0123456789abcdef")
_DIGEST_DIGITS: Final = 64
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds an artefact together; ``signature`` is of everything else in it, by the key of that name."""

    format: str
    key: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.@-]{1,64}\Z")]
    spec_bytes: int
    spec_sha256: _Digest
    weights_bytes: int
    weights_sha256: _Digest
    signature: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{128})?\Z")] = ""

    def signed_bytes(self) -> bytes:
        """Return what the signature is of."""
        return _SIGNED + msgspec.json.encode(msgspec.structs.replace(self, signature=""))


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model that was found good: its name, address, tensors (read-only float32), spec, and whose key signed it."""

    name: str
    sha256: str
    weights: Weights
    spec: ArtefactSpec
    key: str

    def refuse_other_schema(self, schema: str, votes: tuple[str, ...], context: tuple[str, ...]) -> None:
        """Raise ArtefactRefused (WRONG_SCHEMA) unless the model reads these features by this schema."""
        said = (self.spec.schema, self.spec.vote_features, self.spec.context_features)
        if said != (schema, votes, context):
            told = f"{self.name} reads features by the schema {self.spec.schema!a}, and the decider gives {schema!a}"
            raise ArtefactRefused(Refusal.WRONG_SCHEMA, told)


def write_artefact(store: Path, weights: Weights, spec: ArtefactSpec, key: PersonalKey) -> str:
    """Write ``<store>/<sha256>/`` and return the sha256; the same content again changes nothing.

    What is written has been read as ``read_artefact`` reads it. Raises ArtefactRefused, and OSError.
    """
    files = _sealed(weights, spec, key)
    sha256 = hashlib.sha256(files[MANIFEST_NAME]).hexdigest()
    store.mkdir(parents=True, exist_ok=True)
    if not (store / sha256).exists():
        _put(files, store / sha256)
    read_artefact(store, sha256, {key.name: key.public_key})
    return sha256


def write_directory(directory: Path, weights: Weights, spec: ArtefactSpec, key: PersonalKey) -> str:
    """Write the files of an artefact into a directory of any name, which it replaces; return the sha256.

    Raises ArtefactRefused, and OSError.
    """
    files = _sealed(weights, spec, key)
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.exists():
        shutil.rmtree(directory)
    _put(files, directory)
    return hashlib.sha256(files[MANIFEST_NAME]).hexdigest()


def read_artefact(store: Path, sha256: str, allowed_keys: AllowedKeys) -> Artefact:
    """Return the artefact of an address, of which every byte was checked. Raises ArtefactRefused."""
    if not is_address(sha256):
        raise ArtefactRefused(Refusal.BAD_ADDRESS, f"{sha256[:80]!a} is no sha256 in {_DIGEST_DIGITS} hex digits")
    artefact = read_directory(store / sha256, allowed_keys)
    if artefact.sha256 != sha256:
        raise ArtefactRefused(Refusal.WRONG_ADDRESS, f"what lies at {sha256} is {artefact.sha256}")
    return artefact


def read_directory(directory: Path, allowed_keys: AllowedKeys) -> Artefact:
    """Return the artefact in a directory of any name. Raises ArtefactRefused."""
    files = read_members(directory, _LIMITS)
    refuse_pickle(files[WEIGHTS_NAME])
    manifest = _signed_manifest(files[MANIFEST_NAME], allowed_keys)
    _refuse_other_content(SPEC_NAME, files[SPEC_NAME], manifest.spec_bytes, manifest.spec_sha256)
    _refuse_other_content(WEIGHTS_NAME, files[WEIGHTS_NAME], manifest.weights_bytes, manifest.weights_sha256)
    spec = parsed_spec(files[SPEC_NAME])
    weights = parsed_weights(files[WEIGHTS_NAME])
    _refuse_unlike(spec, weights)
    address = hashlib.sha256(files[MANIFEST_NAME]).hexdigest()
    return Artefact(spec.name, address, weights, spec, manifest.key)


def address_of(directory: Path) -> str | None:
    """Return the address of what lies in a directory, unchecked; None when no manifest is there."""
    try:
        return hashlib.sha256((directory / MANIFEST_NAME).read_bytes()).hexdigest()
    except OSError:
        return None


def is_address(text: str) -> bool:
    """Return whether a text is a sha256 as artefacts are named by it, so that it leads to no other place."""
    return len(text) == _DIGEST_DIGITS and _HEX.issuperset(text)


def _sealed(weights: Weights, spec: ArtefactSpec, key: PersonalKey) -> dict[str, bytes]:
    shapes = {name: tuple(array.shape) for name, array in sorted(weights.items())}
    told = spec_bytes(msgspec.structs.replace(spec, tensors=shapes))
    numbers = weights_bytes(weights)
    _refuse_unlike(parsed_spec(told), weights)
    manifest = Manifest(
        format=FORMAT,
        key=key.name,
        spec_bytes=len(told),
        spec_sha256=hashlib.sha256(told).hexdigest(),
        weights_bytes=len(numbers),
        weights_sha256=hashlib.sha256(numbers).hexdigest(),
    )
    signed = msgspec.structs.replace(manifest, signature=key.sign_bytes(manifest.signed_bytes()))
    files = {WEIGHTS_NAME: numbers, SPEC_NAME: told, MANIFEST_NAME: msgspec.json.encode(signed)}
    for name, content in files.items():
        if len(content) > _LIMITS[name]:
            raise ArtefactRefused(Refusal.TOO_LARGE, f"{name} has more than {_LIMITS[name]} bytes")
    return files


def _put(files: dict[str, bytes], place: Path) -> None:
    """Write the files beside the place and then move them there together: nobody finds half an artefact."""
    beside = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
    beside.chmod(0o755)
    for name, content in files.items():
        with (beside / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    try:
        beside.rename(place)
    except OSError:
        shutil.rmtree(beside)
        # Somebody else has written the same at the same time; whoever reads it will find out whether it is.
        if not place.exists():
            raise


def _signed_manifest(content: bytes, allowed_keys: AllowedKeys) -> Manifest:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        told = ascii(str(error)[:160])[1:-1]
        raise ArtefactRefused(Refusal.BAD_MANIFEST, f"the manifest cannot be read: {told}") from error
    if msgspec.json.encode(manifest) != content:
        raise ArtefactRefused(Refusal.BAD_MANIFEST, "the manifest is not in its one form: keys twice, or spaces")
    if manifest.format != FORMAT:
        raise ArtefactRefused(Refusal.UNKNOWN_FORMAT, f"the format {manifest.format[:40]!a} is not known here")
    public_key = allowed_keys.get(manifest.key)
    if public_key is None:
        raise ArtefactRefused(Refusal.UNKNOWN_KEY, f"nobody lets the key {manifest.key!a} sign models here")
    if not is_signed_by(public_key, manifest.signed_bytes(), manifest.signature):
        raise ArtefactRefused(Refusal.BAD_SIGNATURE, f"the manifest is not signed by the key {manifest.key!a}")
    return manifest


def _refuse_other_content(name: str, content: bytes, size: int, sha256: str) -> None:
    if len(content) < size:
        raise ArtefactRefused(Refusal.TRUNCATED, f"{name} has {len(content)} of its {size} bytes")
    if len(content) > size or hashlib.sha256(content).hexdigest() != sha256:
        raise ArtefactRefused(Refusal.WRONG_DIGEST, f"{name} is not what the manifest was signed for")


def _refuse_unlike(spec: ArtefactSpec, weights: Weights) -> None:
    """Refuse a spec that tells of other weights than there are."""
    if spec.tensors != {name: tuple(array.shape) for name, array in weights.items()}:
        raise ArtefactRefused(Refusal.WRONG_SHAPE, "the spec names other tensors or shapes than the weights have")
    said = (len(spec.vote_features), len(spec.context_features), len(spec.targets))
    if said != (len(weights["votes.mean"]), len(weights["context.mean"]), len(weights["head.bias"])):
        raise ArtefactRefused(Refusal.WRONG_SHAPE, f"the spec names {said} votes' and context features and targets")
