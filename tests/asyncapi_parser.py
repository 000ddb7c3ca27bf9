"""AsyncAPI's own parser (npm) with the official JSON schemas, fetched once into the cache where Kafka's jars lie."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.servers.fetching import cache_directory, fetch_once

VERSION = "3.6.3"
_PACKAGES = (f"@asyncapi/parser@{VERSION}", "@asyncapi/avro-schema-parser@3.0.24")
_SCRIPT = """
import { Parser, fromFile } from '@asyncapi/parser';
import { AvroSchemaParser } from '@asyncapi/avro-schema-parser';
const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const answers = [];
for (const path of process.argv.slice(2)) {
  const { document, diagnostics } = await fromFile(parser, path).parse();
  answers.push({
    found: diagnostics.map((d) => ({ severity: d.severity, code: d.code, message: d.message, path: d.path.join('/') })),
    channels: document ? document.channels().all().map((c) => c.address()) : [],
  });
}
console.log(JSON.stringify(answers));
"""


class ParserMissing(Exception):
    """The parser cannot be run here, and why, in one clear sentence."""


def parser_folder() -> Path:
    """Return the folder with the parser and the script that runs it. Raises ParserMissing."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise ParserMissing(f"The AsyncAPI parser needs {tool}, which is not on this machine.")
    folder = cache_directory() / f"asyncapi-parser-{VERSION}"
    fetch_once(folder, folder.is_dir, lambda: _fetch(folder))
    return folder


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        place = Path(partial) / "parser"
        place.mkdir()
        (place / "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", *_PACKAGES]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise ParserMissing(f"npm could not fetch the AsyncAPI parser: {(done.stderr or done.stdout)[-300:]}")
        place.rename(folder)


def validate(folder: Path, documents: Sequence[Path]) -> list[dict[str, Any]]:
    """Return, for each document, what the parser finds in it, and the addresses of its channels."""
    (folder / "validate.mjs").write_text(_SCRIPT)
    command = ["node", "validate.mjs", *map(str, documents)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
