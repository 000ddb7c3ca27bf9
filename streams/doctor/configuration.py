"""What the settings say: whether they can be read, who can read their secrets, and what must not be in production."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.artefacts import ArtefactRefused
from infra.audit_keys import AuditKeysUnusable, is_private, load_keys
from infra.models.store import store_of
from infra.people import PeopleUnusable, load_people
from infra.settings import Settings, SettingsError
from streams.composition import compose
from streams.doctor.examination import Finding, failed, ok, warning

_DEVELOPMENT: Final = "development"
_SIGNERS_LEAST: Final = 2


def composition(settings: Settings) -> Iterator[Finding]:
    """Ask whether a run can be made of the settings."""
    try:
        run = compose(settings)
    except SettingsError as error:
        yield failed("settings", str(error), "Correct the key that the sentence names; `tradermind config` shows all.")
        return
    yield ok("settings", f"{len(run.instruments)} instruments, {len(settings.strategies)} strategies.")


def secret_files(settings: Settings) -> dict[str, Path]:
    """Return setting -> file of every secret that the settings name."""
    binance = settings.venues.binance
    named = {
        "kafka.key_file": settings.kafka.key_file,
        "kafka.sasl_password_file": settings.kafka.sasl_password_file,
        "registry.password_file": settings.registry.password_file,
        "postgres.password_file": settings.postgres.password_file,
        "influx.token_file": settings.influx.token_file,
        "audit.key_file": settings.audit.key_file,
        "trainer.key_file": settings.trainer.key_file,
        "venue.api_key_file": settings.venue.api_key_file,
        "venue.secret_file": settings.venue.secret_file,
        "venues.binance.api_key_file": None if binance is None else binance.api_key_file,
        "venues.binance.secret_file": None if binance is None else binance.secret_file,
    }
    return {name: path for name, path in named.items() if path is not None}


def secrets(settings: Settings) -> Iterator[Finding]:
    """Ask of every secret whether it can be read by us, and by nobody else."""
    named = secret_files(settings)
    if not named:
        yield ok("secrets", "The settings name none.")
    for name, path in named.items():
        try:
            status = path.stat()
            path.open("rb").close()
        except OSError as error:
            mend = f"Put it there, owned by user {os.geteuid()} and with mode 0600, or correct {name}."
            yield failed("secrets", f"{name} names {path}, which cannot be read: {error.strerror}.", mend)
            continue
        mode = stat.S_IMODE(status.st_mode)
        if not is_private(status.st_mode, status.st_uid, os.geteuid()):
            yield failed("secrets", f"{name}: {path} has mode {mode:04o}, open to others.", f"chmod 600 {path}")
        elif status.st_size == 0:
            yield failed("secrets", f"{name}: {path} is empty.", "Write the secret into it, on one line.")
        else:
            yield ok("secrets", f"{name}: {path}, mode {mode:04o}.")


def production(settings: Settings) -> Iterator[Finding]:
    """Ask whether keys that everybody has, or that lie open beside what they protect, would guard real money."""
    name = "development keys"
    real = settings.venues.binance is not None and settings.venues.binance.profile == "production"
    finding = failed if real else warning
    found = 0
    if settings.models.allow_development_key:
        found += 1
        mend = "Set models.allow_development_key = false, and name models.allowed_keys_file."
        yield finding(name, "models.allow_development_key is true, and everybody has that key.", mend)
    path = settings.audit.key_file
    if path is not None and path.is_file() and _signs_for_development(path):
        found += 1
        mend = "Make a key of your own: `tradermind audit new-key FILE`, and keep it from the database's owner."
        yield finding(name, f"audit.key_file {path} signs with a development key.", mend)
    if not found:
        yield ok(name, "None counts.")


def _signs_for_development(path: Path) -> bool:
    try:
        return load_keys(path).signing.startswith(_DEVELOPMENT)
    except AuditKeysUnusable:
        return False  # Another check tells it.


def audit(settings: Settings) -> Iterator[Finding]:
    """Ask whether the audit can be signed."""
    path = settings.audit.key_file
    if path is None:
        mend = "`tradermind audit new-key FILE`, and name it in audit.key_file; `demo` and `up` make one themselves."
        yield warning("audit", "audit.key_file is not set, so a worker of sinks signs nothing.", mend)
        return
    try:
        keys = load_keys(path)
    except AuditKeysUnusable as error:
        yield failed("audit", str(error), "Without its keys the sinks do not start.")
        return
    yield ok("audit", f"Signed by {keys.signing}, one of {len(keys.by_id)}.")
    if settings.audit.anchor_file is None:
        mend = "Name audit.anchor_file, on a disk that the database's owner cannot write."
        yield warning("audit", "There are no anchors: an end of the chain that is cut off is not missed.", mend)


def people(settings: Settings) -> Iterator[Finding]:
    """Ask whether there are two people who could lift a kill."""
    path = settings.people.allow_list_file
    if path is None:
        mend = "`tradermind person new-key FILE` for each, and name the list in people.allow_list_file."
        yield warning("people", "people.allow_list_file is not set: nobody can raise a limit or lift a kill.", mend)
        return
    try:
        listed = load_people(path)
    except PeopleUnusable as error:
        yield failed("people", str(error), "Correct the line that the sentence names.")
        return
    if len(listed) < _SIGNERS_LEAST:
        yield warning("people", f"{path} lists {len(listed)}, and two must sign.", "Add another person's line.")
    else:
        yield ok("people", f"{len(listed)} people may sign.")


def models(settings: Settings) -> Iterator[Finding]:
    """Ask of every stored model whether it is what was signed, and of the champion whether it can act."""
    try:
        store = store_of(settings, lambda *_: None)
    except SettingsError as error:
        yield failed("models", str(error), "Correct the setting that the sentence names.")
        return
    try:
        champion = store.champion(settings.models.champion)
        artefact = store.read(champion)
    except ArtefactRefused as refused:
        mend = "Put the signed artefact back (`tradermind model verify`), or name another in models.champion."
        yield failed("models", f"The champion is refused, {refused.reason.value}: {refused.sentence}.", mend)
    else:
        yield ok("models", f"The champion {artefact.name} ({champion[:12]}) is good, signed by {artefact.key}.")
    for sha256 in store.addresses():
        try:
            store.read(sha256)
        except ArtefactRefused as refused:
            if sha256 != settings.models.champion:
                said = f"{sha256[:12]} is refused, {refused.reason.value}: {refused.sentence}."
                yield warning("models", said, f"Take {store.directory / sha256} away, or put the signed bytes back.")
