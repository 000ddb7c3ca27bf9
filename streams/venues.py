"""Where the orders of a run go: the simulated exchange, or a real venue for its instruments once it is configured."""

import time

from infra.feeds.binance.parse import SPOT
from infra.settings import Settings, SettingsError
from infra.venues import VenuePort
from infra.venues.binance.client import BinanceVenue
from infra.venues.binance.credentials import Credentials, read_credentials
from infra.venues.binance.profiles import addresses_of
from infra.venues.routed import RoutedVenues
from infra.venues.simulated import SimulatedExchangeClient, VenueUnreachable
from schemas.values import NS_PER_MS
from streams.composition import Run
from streams.engine.ports import WorkerFailed


def on_binance(run: Run) -> tuple[str, ...]:
    """Return the instruments of a run whose orders go to Binance: none on a capture, none unless it is configured."""
    if run.on_capture or run.settings.venues.binance is None:
        return ()
    return tuple(name for name, item in run.instruments.items() if item.venue == SPOT)


def needs_simulated(run: Run) -> bool:
    """Tell whether an instrument that has a feed of ours is left for the simulated exchange."""
    return bool(run.fed - set(on_binance(run)))


def check_venue(run: Run) -> None:
    """See that a worker could send orders where the settings say. Raises SettingsError."""
    binance = on_binance(run)
    if binance:
        _binance(run, binance)
    exchange_credentials(run.settings)
    if run.settings.venue.url is None and needs_simulated(run):
        raise SettingsError("venue.url is missing: execution needs a venue.")


async def open_venue(run: Run) -> VenuePort:
    """Return the run's venue, connected. Raises WorkerFailed in one sentence when it cannot be."""
    try:
        return await _open(run)
    except VenueUnreachable as error:
        raise WorkerFailed(str(error)) from error
    except SettingsError as error:
        raise WorkerFailed(str(error), 2) from error


async def _open(run: Run) -> VenuePort:
    binance = on_binance(run)
    if not binance:
        return await _simulated(run)
    # Settings are judged before anything is connected.
    venue = _binance(run, binance)
    await venue.start()
    if run.settings.venue.url is None and not needs_simulated(run):
        return venue
    return RoutedVenues({SPOT: venue}, await _simulated(run))


def exchange_credentials(settings: Settings) -> Credentials | None:
    """Return who we are to the simulated exchange; None: it asks nobody. Raises SettingsError."""
    key_file, secret_file = settings.venue.api_key_file, settings.venue.secret_file
    if key_file is None and secret_file is None:
        return None
    if key_file is None or secret_file is None:
        raise SettingsError("venue: api_key_file and secret_file belong together.")
    return read_credentials(key_file, secret_file, "venue")


def _binance(run: Run, names: tuple[str, ...]) -> BinanceVenue:
    settings = run.settings.venues.binance
    assert settings is not None
    addresses = addresses_of(settings)
    credentials = read_credentials(settings.api_key_file, settings.secret_file)
    return BinanceVenue(settings, addresses, credentials, [run.instruments[name] for name in names])


async def _simulated(run: Run) -> SimulatedExchangeClient:
    url = run.settings.venue.url
    if url is None:
        raise SettingsError("venue.url is missing: execution needs a venue.")
    window_ns = run.settings.venue.receive_window_ms * NS_PER_MS
    credentials = exchange_credentials(run.settings)
    clock = None if run.on_capture else time.time_ns
    client = SimulatedExchangeClient(url, clock=clock, window_ns=window_ns, credentials=credentials)
    await client.start()
    return client
