"""What is generated is fresh, and every dashboard that there is comes along."""

import pytest
from kube_rendered import name_of, of_kind, resources

from infra.kubernetes import DEPLOY, generated_files, stale_files

_BOARDS = DEPLOY.parent / "grafana" / "dashboards"


def test_the_generated_files_are_what_would_be_generated() -> None:
    wanted = generated_files()
    assert stale_files(wanted) == []
    path = next(iter(wanted))
    assert stale_files(wanted | {path: wanted[path].replace("partitions: 8", "partitions: 4", 1)}) == [path]
    assert stale_files({path.with_name("another.yaml"): ""}) == [path.with_name("another.yaml")]


@pytest.mark.kube
@pytest.mark.usefixtures("kubectl_here")
def test_every_dashboard_is_a_config_map_of_its_folder() -> None:
    maps = {name_of(item): item for item in of_kind(resources("prod"), "ConfigMap")}
    boards = sorted(_BOARDS.rglob("*.json"))
    assert len(boards) >= 12
    for board in boards:
        made = maps[f"grafana-{board.stem}"]
        assert made["data"] == {board.name: board.read_text()}
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert made["metadata"]["annotations"]["grafana_folder"] == board.parent.name
