"""Artefacts of models: the same content has the same address, and what was spoilt is refused, by its reason."""

import contextlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from model_artefacts import (
    CONTEXT,
    KEY,
    KEYS,
    VOTES,
    Arrays,
    Forged,
    forged_from,
    put,
    small_artefact,
    small_spec,
    small_weights,
)

from infra.artefacts import (
    MANIFEST_NAME,
    SPEC_NAME,
    WEIGHTS_NAME,
    ArtefactRefused,
    Refusal,
    read_artefact,
    read_directory,
    write_artefact,
    write_directory,
)
from infra.models.alarm import REFUSED
from infra.models.keys import allowed_keys, development_key
from infra.models.spec import spec_bytes
from infra.models.store import ModelStore, store_of
from infra.models.weights import HEADER_BYTES_MAX, WEIGHTS_BYTES_MAX
from infra.people import PeopleUnusable, new_personal_key
from infra.settings import SettingsError, load_settings

FILES = (MANIFEST_NAME, SPEC_NAME, WEIGHTS_NAME)


def refusal_of(store: Path, sha256: str, keys: dict[str, bytes] = KEYS) -> Refusal:
    with pytest.raises(ArtefactRefused) as refused:
        read_artefact(store, sha256, keys)
    sentence = refused.value.sentence
    assert sentence.startswith(f"Refused: {refused.value.reason}, ")
    assert sentence.endswith(".")
    assert sentence.isascii()
    assert sentence.isprintable()
    return refused.value.reason


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    weights = small_weights()
    sha256 = write_artefact(tmp_path, weights, small_spec(), KEY)
    artefact = read_artefact(tmp_path, sha256, KEYS)
    assert (artefact.name, artefact.sha256, artefact.key) == ("small", sha256, "development")
    assert artefact.weights.keys() == weights.keys()
    for name, array in weights.items():
        assert artefact.weights[name].dtype == np.float32
        np.testing.assert_array_equal(artefact.weights[name], array)
        with pytest.raises(ValueError, match="read-only"):
            artefact.weights[name][:] = 0
    assert artefact.spec.metrics == {"net_sharpe": 0.25, "turnover": 3.0}
    assert artefact.spec.tensors["head.weight"] == (5, 4)
    assert {path.name for path in (tmp_path / sha256).iterdir()} == set(FILES)


def test_the_same_content_has_the_same_address_and_is_written_once(tmp_path: Path) -> None:
    first = small_artefact(tmp_path / "a")
    assert small_artefact(tmp_path / "b") == first
    assert small_artefact(tmp_path / "a") == first
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first]
    others = {small_artefact(tmp_path / "a", seed=2), small_artefact(tmp_path / "a", name="other")}
    others.add(small_artefact(tmp_path / "a", key=new_personal_key(tmp_path / "k", "ann")))
    assert len(others | {first}) == 4


def test_a_directory_of_any_name_has_the_address_of_its_manifest(tmp_path: Path) -> None:
    sha256 = write_directory(tmp_path / "champion", small_weights(seed=2), small_spec(), KEY)
    again = write_directory(tmp_path / "champion", small_weights(), small_spec(), KEY)
    assert again == small_artefact(tmp_path / "store") != sha256
    assert read_directory(tmp_path / "champion", KEYS).sha256 == again


def spoilt(arrays: Arrays, name: str, array: Any) -> Arrays:
    return {**arrays, name: array}


def without(arrays: Arrays, name: str) -> Arrays:
    return {key: array for key, array in arrays.items() if key != name}


def infinite(arrays: Arrays) -> Arrays:
    bias = arrays["head.bias"].copy()
    bias[2] = np.inf
    return spoilt(arrays, "head.bias", bias)


def not_a_number(arrays: Arrays) -> Arrays:
    weight = arrays["phi.0.weight"].copy()
    weight[0, 0] = np.nan
    return spoilt(arrays, "phi.0.weight", weight)


SPOILT_WEIGHTS: dict[str, tuple[Refusal, Callable[[Arrays], Arrays]]] = {
    "an unknown tensor": (Refusal.WRONG_TENSORS, lambda a: spoilt(a, "extra", np.zeros(1, np.float32))),
    "a missing tensor": (Refusal.WRONG_TENSORS, lambda a: without(a, "head.bias")),
    "doubles": (Refusal.WRONG_DTYPE, lambda a: spoilt(a, "head.bias", np.zeros(5, np.float64))),
    "integers": (Refusal.WRONG_DTYPE, lambda a: spoilt(a, "head.bias", np.zeros(5, np.int32))),
    "another lattice": (Refusal.WRONG_SHAPE, lambda a: spoilt(a, "head.bias", np.zeros(6, np.float32))),
    "a transposed layer": (Refusal.WRONG_SHAPE, lambda a: spoilt(a, "phi.0.weight", a["phi.0.weight"].T.copy())),
    "a dimension more": (Refusal.WRONG_SHAPE, lambda a: spoilt(a, "head.bias", np.zeros((5, 1), np.float32))),
    "a join that does not fit": (
        Refusal.WRONG_SHAPE,
        lambda a: spoilt(a, "rho.0.weight", np.zeros((4, 9), np.float32)),
    ),
    "no votes": (Refusal.BAD_HEADER, lambda a: spoilt(a, "votes.mean", np.zeros(0, np.float32))),
    "not a number": (Refusal.NOT_FINITE, not_a_number),
    "infinity": (Refusal.NOT_FINITE, infinite),
    "a scale of zero": (Refusal.NOT_FINITE, lambda a: spoilt(a, "votes.scale", np.zeros(3, np.float32))),
}


@pytest.mark.parametrize("how", SPOILT_WEIGHTS)
def test_weights_that_are_not_the_networks_are_neither_written_nor_read(how: str, tmp_path: Path) -> None:
    reason, spoil = SPOILT_WEIGHTS[how]
    arrays = spoil(small_weights())
    with pytest.raises(ArtefactRefused) as refused:
        write_artefact(tmp_path / "written", arrays, small_spec(), KEY)
    assert refused.value.reason == reason
    shapes = {name: array.shape for name, array in arrays.items()}
    spec = spec_bytes(msgspec.structs.replace(small_spec(), tensors=shapes))
    forged = Forged(safetensors.numpy.save(arrays), spec)
    assert refusal_of(tmp_path, forged.write(tmp_path)) == reason


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil",))


def zipped(content: bytes) -> bytes:
    """Return a file as torch saves one."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return target.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_by_whatever_name_is_never_loaded(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    forged, content = forged_from(tmp_path), pickle.dumps(Evil(), protocol)
    for evil in (content, zipped(content)):
        assert refusal_of(tmp_path, Forged(evil, forged.spec).write(tmp_path)) == Refusal.PICKLE
    hidden = forged.weights[: -len(content)] + content
    with contextlib.suppress(ArtefactRefused):
        # As the bytes of a tensor a pickle is numbers, finite or not, and nothing else.
        read_artefact(tmp_path, Forged(hidden, forged.spec).write(tmp_path), KEYS)
    assert refusal_of(tmp_path, Forged(forged.weights + content, forged.spec).write(tmp_path)) == Refusal.BAD_HEADER
    assert not (tmp_path / "evil").exists()


def header_of(content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length].rstrip()


def with_header(content: bytes, header: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    padded = header + b" " * (-len(header) % 8)
    return struct.pack("<Q", len(padded)) + padded + content[8 + length :]


def twice(header: bytes) -> bytes:
    """Return a header in which a tensor is there twice, with another place the first time."""
    return b'{"head.bias":{"dtype":"F32","shape":[5],"data_offsets":[20,40]},' + header[1:]


SPOILT_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "a key twice": twice,
    "spaces": lambda header: header.replace(b":", b": ", 1),
    "metadata": lambda header: b'{"__metadata__":{"format":"pt"},' + header[1:],
    "a list": lambda header: b"[]",
    "nothing": lambda header: b"{",
    "no UTF-8": lambda header: header.replace(b"head.bias", b"head.b\xffas"),
    "an escape": lambda header: header.replace(b"head.bias", b"head.bi\\u0061s"),
    "deep": lambda header: b"[" * 10_000,
    "overlap": lambda header: header.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1),
    "a negative place": lambda header: header.replace(b'"data_offsets":[0,', b'"data_offsets":[-4,', 1),
    "a huge place": lambda header: header.replace(b'"data_offsets":[0,', b'"data_offsets":[99999999999999999999,', 1),
    "a fraction": lambda header: header.replace(b'"shape":[5]', b'"shape":[5.0]', 1),
    "a huge shape": lambda header: header.replace(b'"shape":[5]', b'"shape":[4611686018427387905]', 1),
}


@pytest.mark.parametrize("how", SPOILT_HEADERS)
def test_a_header_that_does_not_say_one_thing_is_refused(how: str, tmp_path: Path) -> None:
    forged = forged_from(tmp_path)
    header = SPOILT_HEADERS[how](header_of(forged.weights))
    assert header != header_of(forged.weights)
    spoilt_file = with_header(forged.weights, header)
    assert refusal_of(tmp_path, Forged(spoilt_file, forged.spec).write(tmp_path)) in (
        Refusal.BAD_HEADER,
        Refusal.WRONG_TENSORS,
    )


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, HEADER_BYTES_MAX + 8])
def test_a_header_that_lies_about_its_length_is_refused(length: int, tmp_path: Path) -> None:
    forged = forged_from(tmp_path)
    lying = struct.pack("<Q", length) + forged.weights[8:]
    assert refusal_of(tmp_path, Forged(lying, forged.spec).write(tmp_path)) == Refusal.BAD_HEADER


def test_an_oversized_artefact_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    forged = forged_from(tmp_path)
    big = Forged(forged.weights + b"\0" * WEIGHTS_BYTES_MAX, forged.spec)
    assert refusal_of(tmp_path, big.write(tmp_path)) == Refusal.TOO_LARGE
    for name in FILES:
        sha256 = forged.write(tmp_path)
        with (tmp_path / sha256 / name).open("r+b") as file:
            file.truncate(1 << 40)  # A sparse file: reading it whole would end this process.
        assert refusal_of(tmp_path, sha256) == Refusal.TOO_LARGE
        (tmp_path / sha256 / name).unlink()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    sha256 = small_artefact(tmp_path)
    for name, reason in ((SPEC_NAME, Refusal.TRUNCATED), (WEIGHTS_NAME, Refusal.TRUNCATED)):
        path = tmp_path / sha256 / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert refusal_of(tmp_path, sha256) == reason
        path.write_bytes(whole)
    forged = forged_from(tmp_path / "forged")
    cut = Forged(forged.weights[:-4], forged.spec)
    assert refusal_of(tmp_path, cut.write(tmp_path)) == Refusal.TRUNCATED


def test_a_signature_counts_only_by_a_key_that_may_and_over_this_very_content(tmp_path: Path) -> None:
    ann, mallory = (new_personal_key(tmp_path / f"{name}.key", name) for name in ("ann", "mallory"))
    store = tmp_path / "store"
    good = small_artefact(store, key=ann)
    assert refusal_of(store, good) == Refusal.UNKNOWN_KEY
    assert refusal_of(store, good, {"ann": mallory.public_key}) == Refusal.BAD_SIGNATURE
    assert read_artefact(store, good, {"ann": ann.public_key}).key == "ann"
    posing = Forged(*(store_file(store, good, name) for name in (WEIGHTS_NAME, SPEC_NAME)), key=mallory)
    posing.claims = {"key": "ann"}
    assert refusal_of(store, posing.write(store), {"ann": ann.public_key}) == Refusal.BAD_SIGNATURE
    manifest = msgspec.json.decode(store_file(store, good, MANIFEST_NAME))
    unsigned = put(store, b"", b"", msgspec.json.encode({**manifest, "signature": ""}))
    assert refusal_of(store, unsigned, {"ann": ann.public_key}) == Refusal.BAD_SIGNATURE


def store_file(store: Path, sha256: str, name: str) -> bytes:
    return (store / sha256 / name).read_bytes()


def test_other_content_under_a_good_signature_is_refused(tmp_path: Path) -> None:
    first, second = small_artefact(tmp_path), small_artefact(tmp_path, seed=2)
    (tmp_path / first / WEIGHTS_NAME).write_bytes(store_file(tmp_path, second, WEIGHTS_NAME))
    assert refusal_of(tmp_path, first) == Refusal.WRONG_DIGEST
    (tmp_path / first).rename(tmp_path / ("0" * 64))
    (tmp_path / second).rename(tmp_path / first)
    assert refusal_of(tmp_path, first) == Refusal.WRONG_ADDRESS


def test_a_manifest_or_spec_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    forged = forged_from(tmp_path)
    doubled = b'{"name":"good",' + forged.spec[1:]
    assert refusal_of(tmp_path, Forged(forged.weights, doubled).write(tmp_path)) == Refusal.BAD_SPEC
    manifest = store_file(tmp_path, forged.write(tmp_path), MANIFEST_NAME)
    twice_there = b'{"format":"tradermind.model.1",' + manifest[1:]
    assert refusal_of(tmp_path, put(tmp_path, forged.weights, forged.spec, twice_there)) == Refusal.BAD_MANIFEST
    other = Forged(forged.weights, forged.spec, claims={"format": "tradermind.model.2"})
    assert refusal_of(tmp_path, other.write(tmp_path)) == Refusal.UNKNOWN_FORMAT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.replace(b'"trials":3', b'"trials":0'),
        lambda spec: spec.replace(b'"trials":3', b'"trials":3,"more":1'),
        lambda spec: spec.replace(b"0.25", b"1e999", 1),
        lambda spec: spec.replace(b'"name":"small"', b'"name":"../small"'),
        lambda spec: spec.replace(b"qrdqn", b"\\u001b[2J"),
        lambda spec: spec[:-1],
        lambda spec: b"[" * 100_000,
    ],
)
def test_a_spec_that_is_not_one_is_refused(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    forged = forged_from(tmp_path)
    assert spoil(forged.spec) != forged.spec
    assert refusal_of(tmp_path, Forged(forged.weights, spoil(forged.spec)).write(tmp_path)) == Refusal.BAD_SPEC


def test_a_spec_of_another_network_is_refused(tmp_path: Path) -> None:
    forged = forged_from(tmp_path)
    fewer = forged.spec.replace(b'["p_down","p_up","weight"]', b'["p_down","p_up"]')
    assert fewer != forged.spec
    assert refusal_of(tmp_path, Forged(forged.weights, fewer).write(tmp_path)) == Refusal.WRONG_SHAPE
    told = forged.spec.replace(b'"head.bias":[5]', b'"head.bias":[6]')
    assert told != forged.spec
    assert refusal_of(tmp_path, Forged(forged.weights, told).write(tmp_path)) == Refusal.WRONG_SHAPE
    other = forged.spec.replace(b'"set-1"', b'"set-2"')
    assert refusal_of(tmp_path, Forged(forged.weights, other).write(tmp_path)) == Refusal.UNKNOWN_FORMAT


def test_a_model_is_held_to_the_features_that_the_decider_gives(tmp_path: Path) -> None:
    artefact = read_artefact(tmp_path, small_artefact(tmp_path), KEYS)
    artefact.refuse_other_schema("test.1", VOTES, CONTEXT)
    for given_features in (("test.2", VOTES, CONTEXT), ("test.1", VOTES[::-1], CONTEXT), ("test.1", VOTES, VOTES)):
        with pytest.raises(ArtefactRefused) as refused:
            artefact.refuse_other_schema(*given_features)
        assert refused.value.reason == Refusal.WRONG_SCHEMA


@pytest.mark.parametrize("address", ["", "..", "../" * 21 + "x", "/etc", "A" * 64, "0" * 63, "0" * 63 + "\n", "0" * 65])
def test_an_address_leads_nowhere_else(address: str, tmp_path: Path) -> None:
    assert refusal_of(tmp_path, address) == Refusal.BAD_ADDRESS


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert refusal_of(tmp_path, "0" * 64) == Refusal.NO_SUCH_ARTEFACT
    for name in FILES:
        sha256 = small_artefact(tmp_path / name)
        (tmp_path / name / sha256 / name).unlink()
        assert refusal_of(tmp_path / name, sha256) == Refusal.NO_SUCH_ARTEFACT


def as_link(path: Path) -> None:
    path.rename(path.parent.parent / f"away.{path.name}")
    path.symlink_to(path.parent.parent / f"away.{path.name}")


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [as_link, as_pipe, as_directory])
@pytest.mark.parametrize("name", FILES)
def test_a_link_a_pipe_or_a_directory_is_no_file(spoil: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    sha256 = small_artefact(tmp_path)
    spoil(tmp_path / sha256 / name)
    assert refusal_of(tmp_path, sha256) == Refusal.NOT_PLAIN_FILES


def test_a_linked_directory_and_a_file_more_are_refused(tmp_path: Path) -> None:
    sha256 = small_artefact(tmp_path / "elsewhere")
    (tmp_path / sha256).symlink_to(tmp_path / "elsewhere" / sha256)
    assert refusal_of(tmp_path, sha256) == Refusal.NOT_PLAIN_FILES
    (tmp_path / "elsewhere" / sha256 / "code.py\n").write_text("print()")
    assert refusal_of(tmp_path / "elsewhere", sha256) == Refusal.NOT_PLAIN_FILES


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """The bytes of a good artefact, in the order of ``FILES``."""
    store = tmp_path_factory.mktemp("good")
    sha256 = small_artefact(store)
    manifest, spec, weights = (store_file(store, sha256, name) for name in FILES)
    return manifest, spec, weights


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_bytes_change_nothing_is_loaded(
    data: st.DataObject, good: tuple[bytes, bytes, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bytes are changed, cut out or put in, in any file; with or without the address following the manifest."""
    store = tmp_path_factory.mktemp("mutated")
    files = list(good)
    which = data.draw(st.integers(0, 2))
    files[which] = mutated(data, files[which])
    manifest, spec, weights = files
    if files == list(good):
        return
    assert refusal_of(store, put(store, weights, spec, manifest)) in Refusal


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_a_signer_has_signed_only_whole_models_are_loaded(
    data: st.DataObject, good: tuple[bytes, bytes, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same by somebody whose key counts: it is refused by reason, or it is a model whose every number is finite."""
    store = tmp_path_factory.mktemp("signed")
    _, spec, weights = good
    if data.draw(st.booleans()):
        spec = mutated(data, spec)
    else:
        weights = mutated(data, weights)
    sha256 = Forged(weights, spec).write(store)
    try:
        artefact = read_artefact(store, sha256, KEYS)
    except ArtefactRefused as refused:
        assert refused.reason in Refusal
    else:
        assert {name: array.shape for name, array in artefact.weights.items()} == artefact.spec.tensors
        assert all(np.isfinite(array).all() for array in artefact.weights.values())


def mutated(data: st.DataObject, content: bytes) -> bytes:
    at = data.draw(st.integers(0, len(content) - 1))
    until = min(len(content), at + data.draw(st.integers(0, 8)))
    return content[:at] + data.draw(st.binary(max_size=8)) + content[until:]


def test_the_store_finds_what_was_shipped_and_tells_of_what_it_refuses(tmp_path: Path) -> None:
    shipped = write_directory(tmp_path / "champion", small_weights(seed=3), small_spec(name="shipped"), KEY)
    heard: list[tuple[str, Refusal]] = []
    store = ModelStore(
        tmp_path / "store", KEYS, lambda sha256, refused: heard.append((sha256, refused.reason)), tmp_path / "champion"
    )
    assert store.addresses() == (shipped,)
    mine = small_artefact(tmp_path / "store")
    assert store.addresses() == tuple(sorted((shipped, mine)))
    assert (store.read(shipped).name, store.read(mine).name) == ("shipped", "small")
    assert (store.champion("shipped"), store.champion(mine)) == (shipped, mine)
    (tmp_path / "champion" / SPEC_NAME).write_bytes(b"{}")
    for sha256, reason in ((shipped, Refusal.TRUNCATED), ("0" * 64, Refusal.NO_SUCH_ARTEFACT)):
        with pytest.raises(ArtefactRefused):
            store.read(sha256)
        assert heard[-1] == (sha256, reason)
    with pytest.raises(ArtefactRefused, match="no champion is shipped"):
        ModelStore(tmp_path, KEYS, shipped=tmp_path / "none").champion("shipped")


def test_a_refusal_is_an_error_in_the_log_and_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = REFUSED["NO_SUCH_ARTEFACT"]
    with pytest.raises(ArtefactRefused):
        ModelStore(tmp_path, KEYS).read("f" * 64)
    assert REFUSED["NO_SUCH_ARTEFACT"] == before + 1
    (told,) = caplog.records
    assert (told.levelname, "NO_SUCH_ARTEFACT" in told.message) == ("ERROR", True)


def test_only_those_listed_as_signers_of_models_count(tmp_path: Path) -> None:
    ann, bob = (new_personal_key(tmp_path / f"{name}.key", name) for name in ("ann", "bob"))
    listed = tmp_path / "models.allow"
    listed.write_text(f"{ann.line('model')}\n{bob.line('risk')}\n")
    assert allowed_keys(listed, development=False) == {"ann": ann.public_key}
    assert allowed_keys(listed, development=True).keys() == {"ann", "development"}
    assert allowed_keys(None, development=False) == {}
    listed.write_text(f"development model {ann.public_key.hex()}\n")
    with pytest.raises(PeopleUnusable, match="everybody has"):
        allowed_keys(listed, development=True)
    assert development_key().public_key == development_key().public_key


def test_everybodys_key_never_counts_where_money_is_real() -> None:
    real = {
        "profile": "production",
        "production_confirmation": "these orders are real",
        "api_key_file": "a.key",
        "secret_file": "b.key",
    }
    with pytest.raises(SettingsError, match="allow_development_key must be false"):
        store_of(load_settings(None, {"venues.binance": real}))
    own = load_settings(None, {"venues.binance": real, "models.allow_development_key": False})
    assert store_of(own).keys == {}
    assert store_of(load_settings(None, {"venues.binance": real | {"profile": "testnet"}})).keys.keys() == {
        "development"
    }
