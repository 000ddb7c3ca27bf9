"""Real Kafka that asks who one is: TLS both ways, SCRAM users, and an authorizer that denies what is not granted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its manual, not by its stubs
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives import serialization
from wire import TlsWire

from infra.kafka import client_settings
from infra.kafka_rights import KafkaPrincipal
from infra.servers import RealKafka, start_kafka
from infra.servers.ports import free_port
from infra.settings_sections import KafkaSettings

PASSWORD = "correct-horse-battery-staple"
SCRAM_USER = "User:tradermind"
TLS_USER = "User:tradermind-tls"

_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},\\
  SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SASL_SSL://127.0.0.1:{told},SSL://127.0.0.1:{tls}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.principal.mapping.rules=RULE:^CN=([^,]+),.*$/$1/
"""
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """A broker whose plain-text listener is the administrator's, and whose others know users by their rights."""

    server: RealKafka
    sasl: KafkaSettings
    mutual_tls: KafkaSettings
    authority: trustme.CA

    def introduce(self, principal: KafkaPrincipal, directory: Path) -> KafkaSettings:
        """Give a principal the rights that the table says, and return how it proves who it is: by its certificate."""
        bindings = [
            AclBinding(
                ResourceType[right.resource.upper()],
                right.name,
                ResourcePatternType.PREFIXED if right.prefix else ResourcePatternType.LITERAL,
                f"User:{principal.name}",
                "*",
                _OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )
            for right in principal.rights
            for operation in right.operations
        ]
        admin = AdminClient(client_settings(self.server.bootstrap))
        for future in admin.create_acls(bindings).values():
            future.result(30)
        shown = self.authority.issue_cert(f"{principal.name}@example.org", common_name=principal.name)
        certificate, key = directory / f"{principal.name}.crt", directory / f"{principal.name}.key"
        shown.cert_chain_pems[0].write_to_path(certificate)
        shown.private_key_pem.write_to_path(key)
        return self.mutual_tls.model_copy(update={"certificate_file": certificate, "key_file": key})

    def grant(self, user: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """Allow a user one operation on what has exactly this name."""
        binding = AclBinding(kind, name, ResourcePatternType.LITERAL, user, "*", operation, AclPermissionType.ALLOW)
        admin = AdminClient(client_settings(self.server.bootstrap))  # Its answers die with it.
        for future in admin.create_acls([binding]).values():
            future.result(10)

    def revoke(self, user: str) -> None:
        """Take every right from a user."""
        ours = (ResourceType.ANY, None, ResourcePatternType.ANY, user, None, AclOperation.ANY, AclPermissionType.ANY)
        admin = AdminClient(client_settings(self.server.bootstrap))
        for future in admin.delete_acls([AclBindingFilter(*ours)]).values():
            future.result(10)


def _pkcs8(key: bytes) -> bytes:
    """Return a private key in the one form that Kafka reads."""
    loaded = serialization.load_pem_private_key(key, None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return loaded.private_bytes(*form)


@contextmanager
def secured_kafka(
    directory: Path, more_properties: str = "", *, sasl_wire: TlsWire | None = None
) -> Iterator[SecuredKafka]:
    """Run such a broker; the user ``tradermind`` proves itself by SCRAM, ``tradermind-tls`` by a certificate.

    With ``sasl_wire``, which is started by whoever gives it, all that users with a password say goes over it.
    """
    directory.mkdir(parents=True)
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("tradermind@example.org", common_name="tradermind-tls")
    files = {name: directory / name for name in ("ca.pem", "server.pem", "client.pem", "client.key", "password")}
    authority.cert_pem.write_to_path(files["ca.pem"])
    chain = b"".join(part.bytes() for part in server.cert_chain_pems)
    files["server.pem"].write_bytes(_pkcs8(server.private_key_pem.bytes()) + chain)
    client.cert_chain_pems[0].write_to_path(files["client.pem"])
    client.private_key_pem.write_to_path(files["client.key"])
    files["password"].write_text(PASSWORD + "\n")
    sasl = free_port() if sasl_wire is None else sasl_wire.target_port
    ports = {"sasl": sasl, "told": sasl if sasl_wire is None else sasl_wire.port, "tls": free_port()}
    properties = _PROPERTIES.format(**ports, keystore=files["server.pem"], authority=files["ca.pem"]) + more_properties
    user = f"SCRAM-SHA-512=[name=tradermind,password={PASSWORD}]"
    kafka = start_kafka(directory / "kafka", properties, ("--add-scram", user))
    try:
        yield SecuredKafka(
            kafka,
            KafkaSettings(
                bootstrap=f"127.0.0.1:{ports['told']}",
                security_protocol="SASL_SSL",
                ca_file=files["ca.pem"],
                sasl_username="tradermind",
                sasl_password_file=files["password"],
            ),
            KafkaSettings(
                bootstrap=f"127.0.0.1:{ports['tls']}",
                security_protocol="SSL",
                ca_file=files["ca.pem"],
                certificate_file=files["client.pem"],
                key_file=files["client.key"],
            ),
            authority,
        )
    finally:
        kafka.stop()
