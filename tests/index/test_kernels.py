"""Loading the compiled kernels where nothing may be written."""

from __future__ import annotations

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
