#!/usr/bin/env bash
# Prepares .venv and, for tests, the programs they need. Does nothing when all is there.
#   scripts/prepare.sh run     the server's packages
#   scripts/prepare.sh test    also test and lint tools, MariaDB, Redis, an LDAP server and sipp
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}

say() { printf 'opensips-py: %s\n' "$*" >&2; }

python_works() { [ "$("$1" -c 'import sys, venv, ensurepip; print(sys.version_info >= (3, 11))' 2>/dev/null)" = True ]; }

origin_of() { "$1" -c 'import os, sys; print(os.path.realpath(sys._base_executable))' 2>/dev/null; }

# Debian's interpreter first: it is built with profile-guided optimisation, which others rarely are, and the server takes
# a tenth less processor time on it. PYTHON=... chooses another one.
find_python() {
    local candidate
    for candidate in ${PYTHON:-/usr/bin/python3 python3.11 python3 python3.12 python3.13 python3.14}; do
        if command -v "$candidate" >/dev/null && python_works "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Debian's interpreter is there and new enough, and only its package for virtual environments is missing.
lacks_venv() {
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && ! python_works /usr/bin/python3
}

# Debian packages that are missing, by the program that each one brings.
missing_packages() {
    [ -x .venv/bin/python ] || [ -n "${PYTHON:-}" ] || find_python >/dev/null || echo python3-venv
    if [ "$what" = test ]; then
        # the -core packages: the programs without a system service
        (PATH=$PATH:/usr/sbin; command -v mariadbd && command -v mariadb-install-db) >/dev/null || echo mariadb-server-core
        command -v my_print_defaults >/dev/null || echo mariadb-client-core
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || echo postgresql
        command -v sipp >/dev/null || echo sip-tester
        command -v redis-server >/dev/null || echo redis-server
        (PATH=$PATH:/usr/sbin; command -v slapd) >/dev/null || echo slapd
    fi
}

install_packages() {
    local packages
    packages=$(missing_packages | sort -u | tr '\n' ' ')
    [ -n "${packages// /}" ] || return 0
    if ! may_install; then
        say "an administrator must install these Debian packages first:"
        say "    apt-get install $packages"
        exit 1
    fi
    say "installing $packages"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

# Debian's interpreter, if another one would do but that is there as well: without it the server is only slower.
prefer_debian_python() {
    if [ ! -x .venv/bin/python ] && [ -z "${PYTHON:-}" ] && may_install && lacks_venv && find_python >/dev/null; then
        say "installing python3-venv, for Debian's own Python"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; } \
            >/dev/null 2>&1 || say "python3-venv cannot be installed: taking $(find_python)"
    fi
}

install_venv() {
    local stamp=.venv/.prepared-$what extras=""
    if [ "$what" = test ]; then
        extras="[test,lint]"
    elif [ -e .venv/.prepared-test ]; then
        stamp=.venv/.prepared-test extras="[test,lint]"
    fi
    if [ -n "${PYTHON:-}" ] && [ -x .venv/bin/python ] && [ "$(origin_of .venv/bin/python)" != "$(origin_of "$PYTHON")" ]; then
        say "PYTHON=$PYTHON is for a new .venv: there is one already (make clean removes it)"
    fi
    if [ -x .venv/bin/python ] && [ "$stamp" -nt setup.cfg ] && [ "$stamp" -nt pyproject.toml ]; then
        return
    fi
    if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        local python
        if ! python=$(find_python); then
            say "${PYTHON:-/usr/bin/python3 and others}: no Python 3.11 or newer with venv and ensurepip (Debian: package python3-venv)"
            exit 1
        fi
        say "making .venv"
        "$python" -m venv --clear .venv
    fi
    say "installing opensips-py$extras into .venv"
    # quiet twice: only errors, for the warnings are about how pip is set up on the machine
    # compat: a path file instead of an import hook, which would cost every start
    .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --config-settings editable_mode=compat -e ".$extras"
    touch "$stamp"
}

prefer_debian_python
install_packages
install_venv
