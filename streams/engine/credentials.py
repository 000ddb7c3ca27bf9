"""Faust's form of how to prove who we are to Kafka."""

import faust
from faust.types.auth import CredentialsT

from infra.kafka import Security
from infra.kafka_security import tls_context


def credentials_of(security: Security) -> CredentialsT | None:
    """Return Faust's credentials for librdkafka's settings, None for plain text. Raises SettingsError."""
    if not security:
        return None
    context = tls_context(security)
    if security["security.protocol"] == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=security["sasl.username"],
        password=security["sasl.password"],
        ssl_context=context,
        mechanism=security["sasl.mechanisms"],
    )
