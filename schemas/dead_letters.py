"""Why a record is refused. The list is closed; the reason travels in a header of the dead letter."""

import enum


class DeadLetterReason(enum.StrEnum):
    """Reason of a dead letter."""

    MALFORMED = "MALFORMED"
    SCHEMA_UNKNOWN = "SCHEMA_UNKNOWN"
    SCHEMA_REFUSED = "SCHEMA_REFUSED"
    INVALID_VALUE = "INVALID_VALUE"
    NOT_FINITE = "NOT_FINITE"
    TOO_LARGE = "TOO_LARGE"
    FUTURE_TIME = "FUTURE_TIME"
    WRONG_PARTITION = "WRONG_PARTITION"
    NAME_CLAIMED = "NAME_CLAIMED"
    TYPE_UNEXPECTED = "TYPE_UNEXPECTED"
    INSTRUMENT_REFUSED = "INSTRUMENT_REFUSED"
    TAKEN = "TAKEN"


class BadRecord(Exception):
    """A record that cannot be used, with the closed reason and one sentence."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class UnknownRecordType(Exception):
    """A record type that this reader does not know: skipped and counted, except on money topics."""
