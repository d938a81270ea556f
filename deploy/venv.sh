# Sourced by deploy/dev.sh and tests/run.sh, from the top folder: makes .venv and installs locked requirements into it.
# shellcheck shell=sh

fail() {
    echo "$*" >&2
    exit 1
}

# Addresses stay out of what we print: they may be an index of the reader's own, with a password in it.
without_addresses() {
    sed 's#[a-z+]*://[^ )"]*#(address)#g'
}

find_python() {
    for candidate in "${PYTHON:-}" python3.12 python3.11 python3.13 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    found=$(python3 --version 2>/dev/null || echo "no python3")
    fail "Python 3.11 or newer is needed, and $found is here. Install one, or name it: PYTHON=/path/to/python3.12 sh $0"
}

make_venv() {
    if .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        return
    fi
    python=$(find_python) || exit 1
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$("$python" --version) cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)."
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || fail "Making .venv failed."
}

# install_locked FILE: installs FILE unless this very FILE was installed last; false if that fails.
install_locked() {
    stamp=.venv/installed-$(basename "$1")
    if cmp -s "$1" "$stamp"; then
        return
    fi
    echo "Installing $1 into .venv; the first time takes a minute"
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --no-deps --require-hashes -r "$1" >.venv/install.log 2>&1 || {
        tail -n 20 .venv/install.log | without_addresses >&2
        echo "Installing $1 failed; .venv/install.log has all of it." >&2
        return 1
    }
    cp "$1" "$stamp"
}
