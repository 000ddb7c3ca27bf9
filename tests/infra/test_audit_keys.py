"""The audit's keys: only their owner may read the file, a wrong line is named, and no key is ever shown."""

from pathlib import Path

import pytest

from infra.audit_keys import AuditKeysUnusable, add_key, development_overrides, is_private, load_keys


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "keys"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_last_key_signs_and_all_of_them_verify(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = add_key(file, "a")
    mac = first.sign(b"said")
    both = add_key(file, "b")
    assert (both.signing, list(both.by_id)) == ("b", ["a", "b"])
    assert both.verifies("a", b"said", mac) and not both.verifies("b", b"said", mac)
    assert not both.verifies("c", b"said", mac) and not both.verifies("a", b"SAID", mac)
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_keys(file).by_id == both.by_id
    assert len(set(both.by_id.values())) == 2 and all(len(key) == 32 for key in both.by_id.values())


def test_keys_are_not_shown(tmp_path: Path) -> None:
    keys = add_key(tmp_path / "keys", "a")
    assert repr(keys) == "AuditKeys(a; signing with a)"
    assert keys.by_id["a"].hex() not in f"{keys} {keys!r}"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o610, 0o640, 0o666])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, f"a {'00' * 32}\n", mode)
    with pytest.raises(AuditKeysUnusable, match=f"{mode:04o}.*chmod 600"):
        load_keys(file)


@pytest.mark.parametrize(
    ("mode", "owner", "reader", "private"),
    [(0o440, 0, 1000, True), (0o440, 0, 0, False), (0o440, 1000, 1000, False), (0o460, 0, 1000, False)]
    + [(0o400, 1000, 1000, True), (0o444, 0, 1000, False), (0o600, 0, 0, True)],
)
def test_a_mounted_secret_of_roots_may_be_its_groups(mode: int, owner: int, reader: int, private: bool) -> None:
    assert is_private(mode, owner, reader) is private


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "hold no key"),
        ("# none yet\n\n", "hold no key"),
        ("a\n", "line 1: it is not"),
        (f"a {'00' * 32}\nb nonsense\n", "line 2: the key is not in hex"),
        (f"a {'00' * 31}\n", "at least 32 bytes"),
        (f"a {'00' * 32}\na {'11' * 32}\n", "line 2: the id a is there twice"),
        (f"a/b {'00' * 32}\n", "line 1: it is not"),
        (f"ä {'00' * 32}\n", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AuditKeysUnusable, match=said):
        load_keys(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(AuditKeysUnusable, match=r"do not exist: `tradermind audit new-key"):
        load_keys(tmp_path / "keys")
    with pytest.raises(AuditKeysUnusable, match="cannot be written"):
        add_key(tmp_path / "nowhere" / "keys", "a")


def test_an_id_is_used_once(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "a")
    with pytest.raises(AuditKeysUnusable, match="never used again"):
        add_key(tmp_path / "keys", "a")
    with pytest.raises(AuditKeysUnusable, match="is no id"):
        add_key(tmp_path / "keys", "a b")


def test_a_development_key_is_made_once_for_a_run(tmp_path: Path) -> None:
    made = development_overrides(tmp_path / "run")
    keys = load_keys(Path(made["audit.key_file"]))
    assert keys.signing == "development-1"
    assert development_overrides(tmp_path / "run") == made
    assert load_keys(Path(made["audit.key_file"])).by_id == keys.by_id
    assert Path(made["audit.anchor_file"]).parent == tmp_path / "run"
