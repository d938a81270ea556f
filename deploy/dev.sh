#!/bin/sh
# Runs the gateway here with a Redis and a COS of its own, and prints the page's address. Needs Python >= 3.11 only.
# Ctrl-C stops it; ./data keeps tasks and objects. Whatever is set in GATEWAY_* is honoured.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. deploy/venv.sh

make_venv
install_locked deploy/requirements.txt
exec .venv/bin/python -m gateway dev "$@"
