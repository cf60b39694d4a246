# shellcheck shell=bash
# What a machine needs before minidocker runs on it: sourced by examples/quickstart and tests/run. Bash, `set -euo pipefail`.
#
#   need_root                  or die
#   need PACKAGE COMMAND...    note Debian's PACKAGE as missing unless COMMAND succeeds
#   need_for_minidocker        the above for all that building and running it takes; sets $python
#   install_missing            by apt; elsewhere say what to install, and die
#   install_minidocker [dev]   into $venv, a plain install; with dev also what lint, types and tests take
#   build_server               examples/server/server, a static binary
#
# Each is silent where there is nothing to do.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$repository/.venv
python=
missing=()

export HOME=${HOME:-/root} # go and pip keep caches there
PATH=$PATH:/usr/sbin:/sbin # plain `su` leaves them out

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

need_root() {
    ((EUID == 0)) || die "containers take root: sudo $0"
}

# Run a command whose output matters only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    ((status == 0)) || { cat "$log" && say "failed ($status): $*"; } >&2
    rm -f "$log"
    return "$status"
}

need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

# The system's own interpreter rather than one a version manager puts first on PATH: the -dev package is for that one.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.1[1-9] "$(type -P python3)"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    return 1
}

need_for_minidocker() {
    if ! find_python; then
        missing+=(python3)
        install_missing
        find_python || die "Python 3.11 or newer is needed; $(/usr/bin/python3 --version) is what this system has"
    fi
    local package=python3
    [[ $python -ef /usr/bin/python3 ]] || package=$(basename "$python")
    need "$package-venv" "$python" -c 'import venv, ensurepip'
    need "$package-dev" "$python" -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")'
    need gcc type -P gcc
    need libcap-dev test -e /usr/include/sys/capability.h
    need libseccomp2 "$python" -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")'
    need nftables type -P nft
    need iproute2 type -P ip
    need golang-go type -P go
    need curl type -P curl
}

install_missing() {
    ((${#missing[@]})) || return 0
    type -P apt-get >/dev/null || die "please install, by the names Debian has for them: ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    local install=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}")
    # Package lists may be absent, or so old that what they name is gone: only then are they fetched.
    "${install[@]}" >/dev/null 2>&1 </dev/null || { quietly apt-get update && quietly "${install[@]}"; }
    missing=()
}

# All that decides what an install would put there.
fingerprint() {
    { "$python" --version && find "$repository"/{pyproject.toml,README.md,minidocker} -type f -not -name '*.pyc' -print0 |
        sort -z | xargs -0 sha256sum; } | sha256sum
}

install_minidocker() {
    local extra=${1:-} now stamp source
    now=$(fingerprint)
    for stamp in "$venv/.installed" "$venv/.installed-dev"; do
        [[ $extra && $stamp != *-$extra ]] && continue
        [[ -r $stamp && $(<"$stamp") == "$now" ]] && "$venv/bin/minidocker" --version >/dev/null 2>&1 && return
    done
    if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "making a venv, ${venv#"$PWD/"}"
        quietly "$python" -m venv --clear "$venv"
    fi
    say "installing minidocker there"
    # From a copy: an install in place leaves build/ behind, and would take files from it that are long deleted.
    source=$(mktemp -d)
    cp -R "$repository"/{pyproject.toml,README.md,LICENSE,minidocker} "$source"
    local status=0 pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --root-user-action=ignore)
    quietly "${pip[@]}" 'setuptools>=77' || status=$?
    ((status != 0)) || quietly "${pip[@]}" --use-pep517 --no-build-isolation "$source${extra:+[$extra]}" || status=$?
    rm -rf "$source"
    ((status == 0)) || return "$status"
    echo "$now" >"$venv/.installed${extra:+-$extra}"
}

build_server() {
    local directory=$repository/examples/server
    [[ $directory/server -nt $directory/main.go && $directory/server -nt $directory/go.mod ]] && return
    say "building examples/server"
    (cd "$directory" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false quietly go build -trimpath -o server .)
}
