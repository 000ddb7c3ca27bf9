"""The schema registry in the settings."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from infra.settings_sections import Milliseconds, Seconds, Section


def _is_http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise ValueError("must not hold credentials; give username and password_file")
    return url


class RegistrySettings(Section):
    """A Confluent-compatible schema registry. Without ``url`` ids come from the committed table.

    ``negative_cache_s`` is how long an id that the registry does not have is not asked about again.
    """

    url: Annotated[str, AfterValidator(_is_http)] | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    timeout_ms: Milliseconds = 5_000
    negative_cache_s: Seconds = 30

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        return self
