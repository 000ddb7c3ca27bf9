"""The models in the settings: where artefacts lie, whose signatures on them count, and which one is champion."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from infra.settings_sections import Number, Section, Share, Whole

ModelAddress = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelSettings(Section):
    """``directory`` is the store of artefacts, ``champion`` the one that is in force until a release names another.

    ``allowed_keys_file`` is a list in the form of the list of people, on which the role ``model`` may sign artefacts.
    ``allow_development_key`` also lets in the key whose private half is in the repository: never for real money.

    A model whose lines have lost more than the share ``loss_max`` of their budget, from the best they had under it, is
    retired; so is one whose inputs lie more than ``drift_tolerance`` standard deviations off those of its training,
    unless ``watch_inputs`` is off. With ``act_outside_training`` a model also acts on instruments that its artefact was
    not trained on; otherwise the strategy's fallback does.

    The gate to canary and to champion asks for ``gate_decisions_min`` pairs of decisions, a lower bound of their
    advantage at ``gate_level`` above 0, and another target on at most the share ``gate_differing_max`` of them.
    """

    directory: Path = Path(".tradermind/models")
    allowed_keys_file: Path | None = None
    allow_development_key: bool = True
    champion: Literal["shipped"] | ModelAddress = "shipped"
    loss_max: Annotated[Number, Field(gt=0)] = Decimal("0.05")
    watch_inputs: bool = True
    act_outside_training: bool = False
    drift_tolerance: Annotated[Number, Field(ge=0, le=4)] = Decimal(2)
    gate_decisions_min: Annotated[Whole, Field(ge=50, le=10_000_000)] = 2_000
    gate_level: Annotated[Number, Field(ge=Decimal("0.5"), le=Decimal("0.9995"))] = Decimal("0.975")
    gate_differing_max: Share = Decimal("0.5")
