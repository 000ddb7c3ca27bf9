"""``python -m streams.exchange_settings``: the simulated exchange's own settings, made from those of a run.

For an exchange that is started beside the workers instead of by ``tradermind demo``: in a cluster its pod makes them of
the workers' own file at its start, so the two cannot differ.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

import msgspec

from infra.settings import SettingsError, load_settings
from streams.composition import compose
from streams.demo.servers import exchange_config


def main(arguments: list[str] | None = None) -> int:
    """Write the settings; return 0, or 2 when those of the run cannot be used."""
    parser = ArgumentParser(prog="python -m streams.exchange_settings", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="the settings of the run")
    parser.add_argument("--host", default="127.0.0.1", help="where the exchange shall listen")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--write", type=Path, required=True, help="the file; the exchange's record lies beside it")
    given = parser.parse_args(arguments)
    try:
        config = exchange_config(compose(load_settings(given.settings)), given.write.parent)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    given.write.write_bytes(msgspec.json.encode(msgspec.structs.replace(config, host=given.host, port=given.port)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
