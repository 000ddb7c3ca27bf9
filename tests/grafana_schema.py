"""Grafana's own types of dashboards (npm) and the TypeScript compiler, fetched once into the cache, and what they say.

Grafana's enums are widened to what JSON can hold; besides that a board is held to the types as they are: a field that
does not exist, a wrong value, a wrong option of a panel is an error. What the types leave open (queries, which every
data source defines by itself, and transformations) is not checked by them; the queries are run instead.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from npm_packages import npm_folder

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


def schema_folder() -> Path:
    """Return the folder with the types and the compiler. Raises NpmMissing."""
    return npm_folder(f"grafana-schema-{VERSION}", "The compiler of Grafana's schema types", _PACKAGES)


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
