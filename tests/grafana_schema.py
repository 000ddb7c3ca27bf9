"""Grafana's own types of dashboards (npm) and the TypeScript compiler, fetched once into the cache, and what they say.

Grafana's enums are widened to what JSON can hold; besides that a board is held to the types as they are: a field that
does not exist, a wrong value, a wrong option of a panel is an error. What the types leave open (queries, which every
data source defines by itself, and transformations) is not checked by them; the queries are run instead.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.servers.fetching import cache_directory, fetch_once

VERSION = "13.2.3"
_PACKAGES = (f"@grafana/schema@{VERSION}", "typescript@5.9.3")
_TYPES = "@grafana/schema/dist/esm/raw/composable"
_PANELS = {
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
    "stat": "stat/panelcfg/x/StatPanelCfg_types.gen",
    "bargauge": "bargauge/panelcfg/x/BarGaugePanelCfg_types.gen",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
    "heatmap": "heatmap/panelcfg/x/HeatmapPanelCfg_types.gen",
    "table": "table/panelcfg/x/TablePanelCfg_types.gen",
}
_WITHOUT_FIELDS = ("stat", "bargauge")
_HEAD = """
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, Panel, RowPanel } from '@grafana/schema';
interface SqlQuery extends DataQuery { editorMode: 'code'; format: 'table'; rawQuery: true; rawSql: string }
type Frame = Omit<Dashboard, 'panels' | 'annotations'> & { annotations: { list: AnnotationQuery<SqlQuery>[] } };
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


class SchemaMissing(Exception):
    """The types cannot be had here, and why, in one clear sentence."""


def schema_folder() -> Path:
    """Return the folder with the types and the compiler. Raises SchemaMissing."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise SchemaMissing(f"Grafana's schema types need {tool}, which is not on this machine.")
    folder = cache_directory() / f"grafana-schema-{VERSION}"
    fetch_once(folder, folder.is_dir, lambda: _fetch(folder))
    return folder


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        place = Path(partial) / "schema"
        place.mkdir()
        (place / "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", *_PACKAGES]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise SchemaMissing(f"npm could not fetch Grafana's schema types: {(done.stderr or done.stdout)[-300:]}")
        place.rename(folder)


def errors_of(folder: Path, boards: Mapping[str, Any]) -> list[str]:
    """Return what the compiler finds wrong in dashboards, by name: an empty list when nothing."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for name, board in boards.items():
            (Path(place) / f"{name}.ts").write_text("\n".join(_program(board)))
        options = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext"]
        command = ["node", "../node_modules/typescript/bin/tsc", *options, "--target", "es2022"]
        command += [f"{name}.ts" for name in boards]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines() + done.stderr.splitlines()


def _program(board: Mapping[str, Any]) -> Iterator[str]:
    """TypeScript that assigns each part of a board to the type that it must have."""
    yield _HEAD
    for kind, module in _PANELS.items():
        yield f"import type * as {_alias(kind)} from '{_TYPES}/{module}';"
    frame = {name: value for name, value in board.items() if name != "panels"}
    yield f"export const board: Plain<Frame> = {json.dumps(frame)};"
    for panel in board["panels"]:
        number, kind = panel["id"], panel["type"]
        if kind == "row":
            yield f"export const row{number}: Plain<RowPanel> = {json.dumps(panel)};"
            continue
        parts = {name: value for name, value in panel.items() if name not in ("options", "fieldConfig")}
        fields = dict(panel["fieldConfig"]["defaults"])
        custom = fields.pop("custom")
        yield f"export const panel{number}: Plain<Omit<Panel, 'options' | 'fieldConfig'>> = {json.dumps(parts)};"
        yield f"export const options{number}: Plain<{_alias(kind)}.Options> = {json.dumps(panel['options'])};"
        yield f"export const fields{number}: Plain<FieldConfig> = {json.dumps(fields)};"
        config = "Record<string, never>" if kind in _WITHOUT_FIELDS else f"Plain<{_alias(kind)}.FieldConfig>"
        yield f"export const custom{number}: {config} = {json.dumps(custom)};"
        rules = json.dumps(panel["fieldConfig"]["overrides"])
        yield f"export const rules{number}: Plain<NonNullable<Panel['fieldConfig']>['overrides']> = {rules};"


def _alias(kind: str) -> str:
    return kind.replace("-", "")
