# bash completion for tcpechod(8).

# The part of the help that the sed script $2 takes out. $1 is the command as it was typed.
_tcpechod_help() {
    "${1/#\~/$HOME}" --help 2>/dev/null | sed -n "$2"
}

_tcpechod() {
    local current=$2 previous=$3 words typed=${COMP_LINE:0:COMP_POINT} i
    COMPREPLY=()
    # After "--": a command, and what it takes.
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -- ]] || continue
        compopt -o filenames 2>/dev/null
        words=-f
        ((i == COMP_CWORD - 1)) && words=-c
        mapfile -t COMPREPLY < <(compgen "$words" -- "$current")
        return
    done
    # For bash, ":" and "@" end a word; what stands behind them in an address is no option.
    [[ ${typed##*[[:space:]]} == *[:@]* ]] && return
    # "--option=value" is three words for bash.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $previous in
    -c | --config | --port-file)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    -l | --listen)
        # Those of a text do not go without it.
        compopt -o nospace 2>/dev/null
        words=$(_tcpechod_help "$1" '/^  \(greet\|reply\) /d; /^Services:/,/^$/s/^  \([a-z]*\) .*/\1@/p')
        ;;
    -L | --log-level) words='error warning notice info debug' ;;
    -R | --reload) words=$(pidof tcpechod) ;;
    -p | --port | -w | --workers) words= ;;
    *) words=$(_tcpechod_help "$1" 's/^  \(-., \|    \)\(--[a-z-]*\).*/\2/p') ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _tcpechod tcpechod
