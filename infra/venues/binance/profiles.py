"""Where Binance spot is: its test network by default, the real one only for who says so twice."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from infra.settings_sources import SettingsError
from infra.settings_venues import BinanceSettings

CONFIRMATION: Final = "these orders are real"
"""What ``production_confirmation`` must say, word for word."""
_REAL_DOMAINS: Final = ("binance.com", "binance.us", "binance.me", "binance.th", "binance.tr")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The two addresses of one profile: REST paths follow ``rest_url``; ``socket_url`` is the WebSocket API."""

    profile: str
    rest_url: str
    socket_url: str


TESTNET: Final = Addresses("testnet", "https://testnet.binance.vision", "wss://ws-api.testnet.binance.vision/ws-api/v3")
PRODUCTION: Final = Addresses("production", "https://api.binance.com", "wss://ws-api.binance.com/ws-api/v3")


def addresses_of(settings: BinanceSettings) -> Addresses:
    """Return where to send orders. Raises SettingsError when that is the real exchange and was not confirmed."""
    public = PRODUCTION if settings.profile == "production" else TESTNET
    found = Addresses(
        settings.profile,
        (settings.rest_url or public.rest_url).rstrip("/"),
        (settings.socket_url or public.socket_url).rstrip("/"),
    )
    _refuse_unencrypted("rest_url", found.rest_url, "https")
    _refuse_unencrypted("socket_url", found.socket_url, "wss")
    if settings.profile == "production":
        if settings.production_confirmation != CONFIRMATION:
            raise SettingsError(
                "venues.binance.profile is 'production': orders would be real. "
                f"If they are to be, set venues.binance.production_confirmation to '{CONFIRMATION}'."
            )
        return found
    for url in (found.rest_url, found.socket_url):
        if is_real(url):
            raise SettingsError(f"{url} is the real exchange, and venues.binance.profile is not 'production'.")
    return found


def is_real(url: str) -> bool:
    """Tell whether an address belongs to the real exchange."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    return any(host == domain or host.endswith(f".{domain}") for domain in _REAL_DOMAINS)


def _refuse_unencrypted(name: str, url: str, scheme: str) -> None:
    """Keys and orders go over TLS, save to a server on this machine, as tests have."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1") and f"{parts.scheme}s" == scheme
    if not parts.hostname or not (parts.scheme == scheme or local):
        raise SettingsError(f"venues.binance.{name} must begin with {scheme}:// and name a host.")
    if parts.username or parts.password:
        raise SettingsError(f"venues.binance.{name} must not hold credentials.")
