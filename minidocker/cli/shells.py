"""The scripts by which shells ask complete.py: `minidocker completion SHELL`."""

from __future__ import annotations

_BASH = """# minidocker completion bash, version 4 or newer
_minidocker_completion() {
    local value
    COMPREPLY=()
    while IFS=$'\\t' read -r value _; do
        case $value in
            :file) compopt -o default ;;
            :dir) compopt -o dirnames ;;
            :nospace) compopt -o nospace ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done < <(_MINIDOCKER_COMPLETE=bash "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _minidocker_completion minidocker
"""

_ZSH = """#compdef minidocker
# minidocker completion zsh
_minidocker() {
    local line value files=
    local -a values described glued
    for line in "${(@f)$(_MINIDOCKER_COMPLETE=zsh $words[1] "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        value=${line%%$'\\t'*}
        case $value in
            '') ;;
            :file) files=_files ;;
            :dir) files='_files -/' ;;
            :nospace) glued=(-S '') ;;
            *) described+=("${value//:/\\\\:}${${line#$value}/#$'\\t'/:}") ;;
        esac
    done
    (( $#described )) && _describe -V minidocker described $glued
    [[ -n $files ]] && ${=files}
}
if [[ $funcstack[1] == _minidocker ]]; then _minidocker "$@"; else compdef _minidocker minidocker; fi
"""

_FISH = """# minidocker completion fish
function _minidocker_completion
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    for line in (_MINIDOCKER_COMPLETE=fish $program $words (commandline -ct) 2>/dev/null)
        switch $line
            case :file
                __fish_complete_path (commandline -ct)
            case :dir
                __fish_complete_directories (commandline -ct)
            case :nospace
            case '*'
                echo $line
        end
    end
end
complete --command minidocker --no-files --keep-order --arguments '(_minidocker_completion)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
