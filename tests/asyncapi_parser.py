"""AsyncAPI's own parser (npm) with the official JSON schemas, fetched once into the cache where Kafka's jars lie."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npm_packages import npm_folder

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


def parser_folder() -> Path:
    """Return the folder with the parser and the script that runs it. Raises NpmMissing."""
    return npm_folder(f"asyncapi-parser-{VERSION}", "The AsyncAPI parser", _PACKAGES)


def validate(folder: Path, documents: Sequence[Path]) -> list[dict[str, Any]]:
    """Return, for each document, what the parser finds in it, and the addresses of its channels."""
    (folder / "validate.mjs").write_text(_SCRIPT)
    command = ["node", "validate.mjs", *map(str, documents)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
