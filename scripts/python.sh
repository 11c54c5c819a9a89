# Sourced by the other scripts: finding a Python, making a virtual environment, saying what happens.

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Prints the first Python of version 3.10 or newer; PYTHON in the environment comes first.
find_python() {
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

# make_venv FOLDER: makes a virtual environment unless a working one is there.
make_venv() {
  if "$1/bin/python" -m pip --version >/dev/null 2>&1; then
    say "using the virtual environment $1"
    return 0
  fi
  python=$(find_python) || die "Python 3.10 or newer is needed and was not found; install it, or set PYTHON=/path/to/python3"
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    die "$("$python" --version) lacks the modules venv and ensurepip; on Debian and Ubuntu: apt install python3-venv"
  say "making the virtual environment $1 with $("$python" --version)"
  rm -rf "$1"
  "$python" -m venv "$1" || die "the virtual environment could not be made; is there room on the disk?"
}
