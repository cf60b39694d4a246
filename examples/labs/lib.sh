# shellcheck shell=bash
# What the labs have in common: sourced by each, `set -euo pipefail` in force, the script's arguments given on.
#
#   title TEXT           a heading
#   note TEXT            a line of prose
#   show COMMAND         print a command line as it is typed, and run it
#   fails COMMAND        the same for one that must fail
#   serve NAME COMMAND   print and start a server, and wait until it says that it listens
#   by_hand VERB REST    run `minidocker VERB REST`, and print what it did to the network as a person would type it
#   outside              a neighbour of this host on a wire: 192.0.2.1 here, 192.0.2.2 there
#
# A lab runs on this host, or with --safe in a pretend host: network, mount and pid namespaces of its own that no packet leaves and that
# go with it. The latter is also what it does by itself where this host has something in the lab's way. Whatever it makes it takes down.

# shellcheck source=examples/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/setup.sh"

# What the labs use, and nobody else may have.
subnets=(10.77.0.0/16 192.0.2.0/24)
links=(br0 br9 wire0 lab0 red0)
namespaces=(red blue outside a b c)
servers=() # pids to end
made=()    # namespaces to remove
root=

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' green=$'\e[32m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' green='' dim='' plain=''
fi

title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s\n' "$*"; }
typed() { printf '%s$ %s%s\n' "$green" "$*" "$plain"; }

show() {
    typed "$*"
    eval "$*" 2>&1 </dev/null || die "that should not have failed"
}

fails() {
    typed "$*"
    if eval "$*" 2>&1 </dev/null; then die "that should have failed"; fi
}

serve() {
    local name=$1 log tries
    shift
    log=$(mktemp -p "$root")
    typed "$* &"
    (eval "exec $*") >"$log" 2>&1 </dev/null &
    servers+=("$!")
    for ((tries = 0; tries < 100; tries++)); do
        [[ -s $log ]] && cat "$log" && return
        sleep 0.1
    done
    die "$name did not begin to listen within 10 seconds"
}

# Of what --explain says: the lines about links, addresses and routes, without the long texts between quotes.
network_lines() { awk '
    /^# / { wanted = $2 == "network" }
    !quoted && /^  # / { next }
    wanted && quoted { if (gsub(/\047/, "&") % 2) quoted = 0; next }
    wanted && (gsub(/\047/, "&") % 2) { quoted = 1; next }
    wanted && /^  (ip|bridge|sysctl|nsenter) / { sub(/^  /, "    "); print }'; }

by_hand() {
    local verb=$1 said
    shift
    said=$(mktemp -p "$root")
    typed "minidocker $verb $*"
    eval "minidocker $verb --explain $*" 2>"$said" </dev/null || { cat "$said" >&2 && die "that should not have failed"; }
    printf '%sby hand:%s\n' "$dim" "$plain"
    network_lines <"$said" | tee "$root/lines"
    [[ -s $root/lines ]] || die "nothing was said of the network"
}

# shellcheck disable=SC2154 # setup.sh sets $venv, and $repository
minidocker() { "${MINIDOCKER_BIN:-$venv/bin/minidocker}" --root "$root/data" "$@"; }

# A container's first line, once there is one.
await() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [[ $(minidocker logs "$1" 2>/dev/null) ]] && return
        sleep 0.1
    done
    die "$1 did not begin to listen within 10 seconds"
}

netns() {
    made+=("$1")
    show "ip netns add $1"
}

outside() {
    made+=(outside)
    ip netns add outside
    ip link add wire0 type veth peer name eth0 netns outside
    ip addr add 192.0.2.1/24 dev wire0
    ip link set wire0 up
    ip -n outside addr add 192.0.2.2/24 dev eth0
    ip -n outside link set lo up
    ip -n outside link set eth0 up
    # The way out for all else, too, so that this is the wire that minidocker finds. None but a pretend host gets it.
    [[ -z ${PRETEND_HOST:-} ]] || ip route add default via 192.0.2.2
}

in_the_way() {
    local it
    for it in "${subnets[@]}"; do
        if [[ $(ip -4 route show table all root "$it"; ip -4 route show table all match "$it" | grep -v '^default') ]]; then
            echo "a route for $it"
            return
        fi
    done
    for it in "${links[@]}"; do
        if ip link show "$it" >/dev/null 2>&1; then echo "an interface $it" && return; fi
    done
    for it in "${namespaces[@]}"; do
        if [[ -e /run/netns/$it ]]; then echo "a network namespace $it" && return; fi
    done
}

cleanup() {
    local status=$? pid name left
    trap - EXIT
    trap '' INT TERM HUP
    for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
    if [[ -d $root/data ]]; then
        mapfile -t left < <(minidocker ps -aq)
        ((${#left[@]} == 0)) || minidocker rm -f "${left[@]}" >/dev/null || status=1
        mapfile -t left < <(minidocker network ls -q)
        ((${#left[@]} == 0)) || minidocker network rm "${left[@]}" >/dev/null || status=1
    fi
    for name in "${links[@]}"; do
        if ip link show "$name" >/dev/null 2>&1; then ip link del "$name" || status=1; fi
    done
    for name in "${made[@]}"; do
        [[ ! -e /run/netns/$name ]] || ip netns del "$name" || status=1
    done
    rm -rf --one-file-system -- "$root"
    exit "$status"
}

# begin ARGUMENTS...: with always_safe=1 set, in a pretend host in any case
begin() {
    local always=${always_safe:-} found
    case ${1:-} in
    --help | -h)
        say "usage: $0 [--safe]    in a pretend host; without it on this one, unless something is in the way"
        exit 0
        ;;
    --safe | '') ;;
    *) die "unknown argument $1; --safe is the only one" ;;
    esac
    if [[ -z ${PRETEND_HOST:-} ]]; then
        need_root
        if [[ -z ${MINIDOCKER_BIN:-} ]]; then # another minidocker than the one here
            need_for_minidocker
            install_missing
            install_minidocker ""
        fi
        build_server
        found=$(in_the_way)
        if [[ ${1:-} == --safe || $always || $found ]]; then
            [[ ${1:-} == --safe || $always ]] || say "there is $found on this host, so this runs in a pretend one (--safe)"
            PRETEND_HOST=1 exec unshare --kill-child --net --mount --pid --fork --mount-proc --propagation private -- "$0"
        fi
    else
        mount -t tmpfs tmpfs /run
        mkdir -p /run/netns /run/lock
        ip link set lo up
        # The host's resolvers are out of reach in here, and `doctor` would say so.
        : >/run/resolv.conf
        mount --bind /run/resolv.conf /etc/resolv.conf
    fi
    root=$(mktemp -d -p /var/tmp minidocker-lab.XXXXXX)
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    export no_proxy='*'
    cd "$repository/examples/server" || exit
}
