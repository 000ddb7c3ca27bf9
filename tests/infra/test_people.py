"""The list of people and their keys: what is no list, or open to others, is refused in one sentence."""

import stat
from pathlib import Path

import pytest

from infra.people import (
    PeopleUnusable,
    PersonalKey,
    development_people,
    load_people,
    load_personal_key,
    new_personal_key,
    reader_of,
)
from schemas.changes import canonical_text


def key_of(folder: Path, name: str) -> PersonalKey:
    return new_personal_key(folder / f"{name}.key", name)


def listed(folder: Path, *lines: str, mode: int = 0o644) -> Path:
    path = folder / "people.allow"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    return path


def test_a_new_key_is_its_owners_alone_and_signs_what_its_line_verifies(tmp_path: Path) -> None:
    key = key_of(tmp_path, "ann")
    file = tmp_path / "ann.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.key.private_bytes_raw().hex() not in repr(key) + key.line()
    people = load_people(listed(tmp_path, "# who may sign", key.line(), key_of(tmp_path, "bob").line("trader")))
    assert [(person.name, person.may_sign) for person in people.values()] == [("ann", True), ("bob", False)]
    signature = load_personal_key(file).sign("a change")
    assert people["ann"].signed("a change", signature)
    assert not people["ann"].signed("another", signature)
    assert not people["bob"].signed("a change", signature)
    for broken in ("", "zz", signature[:-2], signature + "00", "00" * 64):
        assert not people["ann"].signed("a change", broken)


def test_what_was_signed_for_something_else_is_no_approval(tmp_path: Path) -> None:
    """A signature over the bare text, as another programme might ask for one, is not one over a change."""
    key = key_of(tmp_path, "ann")
    people = load_people(listed(tmp_path, key.line()))
    assert not people["ann"].signed("a change", key.key.sign(b"a change").hex())
    assert canonical_text.__module__ == "schemas.changes"


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    key_of(tmp_path, "ann")
    with pytest.raises(PeopleUnusable, match="cannot be made"):
        key_of(tmp_path, "ann")


@pytest.mark.parametrize("name", ["", "two words", "a" * 65, "ümlaut"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(PeopleUnusable, match="no name for a person"):
        new_personal_key(tmp_path / "k", name)


def test_a_key_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    key_of(tmp_path, "ann")
    file = tmp_path / "ann.key"
    file.chmod(0o640)
    with pytest.raises(PeopleUnusable, match="open to others"):
        load_personal_key(file)
    file.chmod(0o600)
    for content in ("", "ed25519 ann", "ed25519 ann zz", "rsa ann " + "00" * 32, "ed25519 ann " + "00" * 31):
        file.write_text(content)
        with pytest.raises(PeopleUnusable, match="is not what"):
            load_personal_key(file)
    with pytest.raises(PeopleUnusable, match="cannot be read"):
        load_personal_key(tmp_path / "nothing")


def test_a_list_that_others_may_write_lets_nobody_in(tmp_path: Path) -> None:
    line = key_of(tmp_path, "ann").line()
    for mode in (0o664, 0o646, 0o666):
        with pytest.raises(PeopleUnusable, match="may be written by others"):
            load_people(listed(tmp_path, line, mode=mode))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("ann risk",), "line 1: it is not"),
        (("ann risk zz",), "line 1: the key is not in hex digits"),
        (("ann risk 00ff",), "line 1: a public key has 32 bytes"),
        (("ann Risk! " + "00" * 32,), "line 1: it is not"),
        (("ann risk " + "00" * 32, "ann risk " + "01" * 32), "line 2: this name or this key is there twice"),
        (("ann risk " + "00" * 32, "bob risk " + "00" * 32), "line 2: this name or this key is there twice"),
    ],
)
def test_a_list_that_is_none_names_the_line(tmp_path: Path, lines: tuple[str, ...], told: str) -> None:
    with pytest.raises(PeopleUnusable, match=told):
        load_people(listed(tmp_path, *lines))


def test_the_list_is_read_anew_each_time(tmp_path: Path) -> None:
    ann, bob = key_of(tmp_path, "ann").line(), key_of(tmp_path, "bob").line()
    read = reader_of(listed(tmp_path, ann, bob))
    assert read is not None
    assert set(read()) == {"ann", "bob"}
    listed(tmp_path, ann)
    assert set(read()) == {"ann"}
    assert reader_of(None) is None


def test_two_development_people_are_made_once(tmp_path: Path) -> None:
    made = development_people(tmp_path)
    people = load_people(Path(made["people.allow_list_file"]))
    assert all(person.may_sign for person in people.values()) and set(people) == {"ann", "bob"}
    assert development_people(tmp_path) == made
    assert load_people(Path(made["people.allow_list_file"])) == people
    assert load_personal_key(tmp_path / "ann.key").public_key == people["ann"].public_key
