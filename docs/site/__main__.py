"""Builds the site: `python docs/site OUT`. A warning is an error; every page is made anew, so that none is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import main

HERE = Path(__file__).resolve().parent


def build(out: Path) -> int:
    """Returns the exit status of a build into a folder; what Sphinx keeps for itself lies beside it."""
    kept = out.with_name(f"{out.name}.trees")
    options = ["-b", "html", "-W", "--keep-going", "-q", "-E", "-a", "-j", "auto", "-d", str(kept), "-c", str(HERE)]
    return main([*options, str(HERE.parents[1]), str(out)])


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]).resolve()))
