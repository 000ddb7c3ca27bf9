"""How clients prove who they are to a broker, and it to them: from settings whose secrets are files."""

import ssl
from typing import Final

from infra.kafka import Security
from infra.settings_sections import KafkaSettings, read_secret
from infra.settings_sources import SettingsError

_FILES: Final = (
    ("ca_file", "ssl.ca.location"),
    ("certificate_file", "ssl.certificate.location"),
    ("key_file", "ssl.key.location"),
)


def security_of(kafka: KafkaSettings) -> dict[str, str]:
    """Return librdkafka's settings for these; empty for plain text. Raises SettingsError for a file that is not there.

    The result holds the password: it goes to clients and is neither printed nor written.
    """
    if kafka.security_protocol == "PLAINTEXT":
        return {}
    found: dict[str, str] = {"security.protocol": kafka.security_protocol}
    for name, theirs in _FILES:
        path = getattr(kafka, name)
        if path is not None:
            if not path.is_file():
                raise SettingsError(f"kafka.{name} names {path}, which is not a file.")
            found[theirs] = str(path)
    if kafka.security_protocol == "SASL_SSL":
        assert kafka.sasl_username is not None and kafka.sasl_password_file is not None
        try:
            password = read_secret(kafka.sasl_password_file)
        except OSError as error:
            raise SettingsError(f"kafka.sasl_password_file cannot be read: {error.strerror}.") from None
        found |= {"sasl.mechanisms": kafka.sasl_mechanism, "sasl.username": kafka.sasl_username}
        found["sasl.password"] = password
    return found


def tls_context(security: Security) -> ssl.SSLContext:
    """Return the TLS context of a client that shall use ``security``. Raises SettingsError for unusable files."""
    try:
        context = ssl.create_default_context(cafile=security.get("ssl.ca.location"))
        if "ssl.certificate.location" in security:
            context.load_cert_chain(security["ssl.certificate.location"], security["ssl.key.location"])
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"The certificates for Kafka cannot be used: {error}.") from None
    return context
