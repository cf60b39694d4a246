# shellcheck shell=bash
# What the recipes share: a tree is built beside its place and renamed into it, so that it is there whole or not at all.

# shellcheck source=examples/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../examples/lib/setup.sh"

# find_place DIR: set $place to where the tree will be, or die: before anything is installed for it.
find_place() {
    place=$(realpath -ms -- "$1")
    [[ ! -e $place && ! -L $place ]] || { [[ -d $place && ! -L $place ]] && [[ -z $(ls -A -- "$place") ]]; } ||
        die "$place is there already; remove it first, or name another directory"
    [[ -d $(dirname -- "$place") ]] || die "$(dirname -- "$place") is no directory"
}

# Set $tree to an empty directory beside $place that is removed again unless finish_tree is reached.
new_tree() {
    tree=$(mktemp -d -- "$(dirname -- "$place")/.$(basename -- "$place").XXXXXX")
    trap 'rm -rf --one-file-system -- "$tree"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

finish_tree() {
    chmod 755 "$tree"
    mv -T -- "$tree" "$place" # rename(2): it replaces an empty directory and no other
    trap - EXIT
}
