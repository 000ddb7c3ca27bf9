"""``python -m infra.kubernetes``: write the generated files; ``--check``: name those that are not fresh, and exit 1."""

import sys
from argparse import ArgumentParser

from infra.kubernetes import DEPLOY, generated_files, stale_files


def main(arguments: list[str] | None = None) -> int:
    """Write or check; return the exit code."""
    parser = ArgumentParser(prog="python -m infra.kubernetes", description="The generated files of deploy/k8s.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is not fresh")
    if not parser.parse_args(arguments).check:
        for path, text in generated_files().items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = stale_files(generated_files())
    for path in stale:
        sys.stderr.write(f"{path.relative_to(DEPLOY)} is not fresh: run `python -m infra.kubernetes`.\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
