"""The settings of the port on which a worker tells of itself: nothing that a stage's output depends on."""

from typing import Annotated

from pydantic import Field

from infra.settings_sections import Section


class MetricsSettings(Section):
    """Where ``/metrics`` and the probes are served. ``port`` 0: nowhere.

    ``loop_still_s``: an event loop that has not turned for so long fails ``/livez``.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9108
    loop_still_s: Annotated[float, Field(gt=0)] = 30.0
