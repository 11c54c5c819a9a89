"""Loading the compiled kernels where nothing may be written, or nothing fits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

# What a read-only installation without a home folder looks like to numba: no folder takes its cache.
SCRIPT = textwrap.dedent("""
    import tempfile
    real = tempfile.TemporaryFile
    def refused(*args, dir=None, **options):
        if dir is not None and "plait-kernels-" not in str(dir):
            raise PermissionError(13, "Permission denied", str(dir))
        return real(*args, dir=dir, **options)
    tempfile.TemporaryFile = refused
    from plait.index.compiled import kernels_loaded, load_kernels
    load_kernels()
    assert kernels_loaded()
    from numba.core import config
    print(config.CACHE_DIR)
""")


def test_kernels_load_where_no_cache_can_be_kept():
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "plait-kernels-" in said.stdout


FULL = textwrap.dedent("""
    import errno
    from numba.core.caching import IndexDataCacheFile
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    IndexDataCacheFile.save = full
    from plait.index.compiled import kernels_loaded
    from plait.retriever import Retriever
    with Retriever.create("small.index", strands="lexical") as r:
        r.add([{"id": "bees", "text": "Bees make honey."}, {"id": "snow", "text": "Snow falls."}])
        r.commit()
        for _ in range(4):
            print(r.search("honey")[0].id, kernels_loaded())
""")


def test_a_disk_that_is_too_full_for_kernels_stops_no_search(tmp_path):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.splitlines() == 4 * ["bees False"]
