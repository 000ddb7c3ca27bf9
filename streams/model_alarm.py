"""A refused artefact is told aloud and kept: a line of the log, a count, and a row of the record where there is one."""

import logging
from functools import partial

import psycopg

from infra.artefacts import ArtefactRefused
from infra.models.alarm import sound
from infra.models.store import Alarm
from infra.postgres.model_refusals import insert_refusal

_LOG = logging.getLogger("tradermind.models")


def alarm_of(dsn: str | None, author: str) -> Alarm:
    """Return the alarm of somebody who reads artefacts; without a database there is no row."""
    return sound if dsn is None else partial(_alarm, dsn, author)


def _alarm(dsn: str, author: str, sha256: str, refused: ArtefactRefused) -> None:
    sound(sha256, refused)
    try:
        insert_refusal(dsn, sha256, refused, author)
    except psycopg.Error as error:
        # The model is refused whether or not anybody can write it down.
        _LOG.error("the refusal could not be stored: %s", str(error).strip().splitlines()[-1])
