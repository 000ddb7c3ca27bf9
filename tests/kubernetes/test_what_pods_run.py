"""What the pods of every overlay run: our command line takes their words, and our code their settings and files."""

from pathlib import Path
from typing import Any

import pytest
import typer
import typer.core
import typer.main
from kube_mounts import environment_of, lay_out, settings_text
from kube_rendered import OVERLAYS, Pod, named, pods, resources, template_of, workers

from infra.settings import Settings, SettingsError, load_settings
from infra.venues.binance.profiles import addresses_of
from streams.cli import app
from streams.composition import compose
from streams.exchange_settings import main as write_exchange_settings
from streams.launch import build_worker, engine_settings

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("kubectl_here")]
_NO_TORCH = "trainer"
_USAGE_ERROR: Any = typer.BadParameter.__base__
"""What typer's own copy of click says of words that it does not know."""


def parsed(words: list[str]) -> Any:
    """Return what the command line makes of these words. Raises _USAGE_ERROR."""
    command: Any = typer.main.get_command(app)
    context, name, rest = None, words[0], words[1:]
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context(name, list(rest), parent=context)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return command.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_command_line_takes_every_containers_words(overlay: str) -> None:
    commands = [container["command"] for pod in pods(resources(overlay)) for container in pod.containers()]
    ours = [words for words in commands if words[0] == "tradermind"]
    assert {words[0] for words in commands} <= {"tradermind", "python"}
    for words in ours:
        parsed(words)
    with pytest.raises(_USAGE_ERROR):
        parsed([*ours[0], "--no-such-option"])
    with pytest.raises(_USAGE_ERROR):
        parsed(["tradermind", "no-such-command"])


def _settings(tmp_path: Path, overlay: str, worker: str = "execution", **changes: str) -> Settings:
    items = resources(overlay)
    (pod,) = [pod for pod in pods(items) if pod.owner == worker]
    file = tmp_path / "tradermind.toml"
    file.write_text(settings_text(items))
    return load_settings(file, environment=environment_of(items, pod) | changes)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_code_takes_the_settings(overlay: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path, overlay)
    lists = tmp_path / "models.allow"
    lists.write_text("# nobody yet")
    run = compose(
        settings.model_copy(update={"models": settings.models.model_copy(update={"allowed_keys_file": lists})})
    )
    assert run.fed == ({"SIM:BTCUSD", "SIM:ETHUSD"} if overlay == "dev" else {"BINANCE:BTCUSDT"})
    assert (settings.metrics.host, settings.metrics.port) == ("0.0.0.0", 9108)
    with pytest.raises(SettingsError):
        _settings(tmp_path, overlay, TRADERMIND__KAFKA__NO_SUCH_KEY="1")


@pytest.mark.parametrize("overlay", ["staging", "prod"])
def test_where_money_could_be_real_nobody_elses_key_counts(overlay: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path, overlay)
    assert settings.models.allow_development_key is False
    assert settings.kafka.security_protocol == "SSL" and settings.kafka.certificate_file is not None
    assert settings.kafka.replication == 3
    assert settings.postgres.dsn is not None and "sslmode=verify-full" in settings.postgres.dsn
    assert settings.people.allow_list_file is not None and settings.audit.key_file is not None
    assert all(strategy.policy == "baseline" for strategy in settings.strategies.values())


def test_production_orders_want_a_persons_words(tmp_path: Path) -> None:
    given = _settings(tmp_path, "prod").venues.binance
    assert given is not None and given.profile == "testnet"
    with pytest.raises(SettingsError, match="confirmation"):
        asked = _settings(tmp_path, "prod", TRADERMIND__VENUES__BINANCE__PROFILE="production").venues.binance
        assert asked is not None
        addresses_of(asked)


def _build(root: Path, environment: dict[str, str], worker: str) -> None:
    settings = load_settings(root / "etc" / "tradermind" / "tradermind.toml", environment=environment)
    run = compose(settings)
    build_worker(run, engine_settings(settings, embedded=False, instance_id=None), [worker])


def _workers(overlay: str) -> list[Pod]:
    # Building the trainer needs torch, which its image has and this suite's environment has not.
    return [pod for pod in workers(resources(overlay)) if pod.owner != _NO_TORCH]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_worker_is_built_of_the_files_that_its_pod_mounts(overlay: str, tmp_path: Path) -> None:
    items = resources(overlay)
    for pod in _workers(overlay):
        root = tmp_path / pod.owner
        _build(root, lay_out(root, items, pod), pod.owner)


@pytest.mark.parametrize(
    ("worker", "volume"),
    [
        *(
            (name, volume)
            for name in ("execution", "sinks", "feed")
            for volume in ("kafka-user", "kafka-ca", "postgres")
        ),
        ("execution", "venue"),
        ("sinks", "audit"),
        ("sinks", "influx"),
    ],
)
def test_without_a_mount_a_worker_is_not_built(worker: str, volume: str, tmp_path: Path) -> None:
    items = resources("prod")
    (pod,) = [pod for pod in _workers("prod") if pod.owner == worker]
    with pytest.raises((SettingsError, OSError)):
        _build(tmp_path, lay_out(tmp_path, items, pod, without=volume), worker)


def test_the_exchange_makes_its_settings_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = resources("dev")
    template = template_of(named(items, "Deployment", "exchange"))
    assert template is not None
    (maker,) = template["spec"]["initContainers"]
    words = maker["command"]
    assert words[:3] == ["python", "-m", "streams.exchange_settings"]
    (pod,) = [pod for pod in pods(items) if pod.owner == "exchange"]
    for key, value in lay_out(tmp_path, items, pod).items():
        monkeypatch.setenv(key, value)
    assert write_exchange_settings([word if word[0] != "/" else f"{tmp_path}{word}" for word in words[3:]]) == 0
    assert b'"port":8090' in (tmp_path / "var/lib/tradermind/exchange.json").read_bytes()
