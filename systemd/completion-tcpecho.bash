# bash completion for tcpecho(1).

# The help, of the mode that the options behind $1 select. $1 is the command as it was typed.
_tcpecho_help() {
    "${1/#\~/$HOME}" --help "${@:2}" 2>/dev/null
}

# Its options: "-LETTER --NAME" and what its argument is called, if it takes one.
_tcpecho_options() {
    _tcpecho_help "$@" | sed -n 's/^  \(-.\), \(--[a-z-]*\) \([A-Z[][^ ]*\) .*/\1 \2 \3/p
                                 t
                                 s/^  \(-.\), \(--[a-z-]*\) .*/\1 \2/p'
}

_tcpecho() {
    local current=$2 previous=$3 mode=() options modes word given rest letter name argument words='' wanted='' operands=0
    COMPREPLY=()
    # "--option=value" is three words for bash.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    options=$(_tcpecho_options "$1")
    modes=$(_tcpecho_help "$1" | sed -n 's/^tcpecho \(--[a-z]*\) .*/\1/p')

    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == -* || $word == = || -n $wanted ]] || ((++operands))
        wanted=
        # "-pc" is two options, and behind one that takes an argument comes the argument.
        while [[ -n $word ]]; do
            given=$word rest=
            [[ $word != -[!-]?* ]] || given=${word:0:2} rest=-${word:2}
            word=$rest
            while read -r letter name argument; do
                [[ $given == "$letter" || $given == "$name" ]] || continue
                [[ -n $rest ]] || wanted=$argument
                [[ -z $argument ]] || word=
                # The help does not look at operands, and the option may want an argument.
                [[ $'\n'$modes$'\n' != *$'\n'"$name"$'\n'* ]] || mode=("$name" 0)
            done <<<"$options"
        done
    done
    while read -r letter name argument; do
        [[ $previous != "$letter" && $previous != "$name" ]] || wanted=$argument
    done <<<"$options"

    if [[ $wanted == SERVICE ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'echo upper' -- "$current")
    elif [[ -n $wanted ]]; then
        return
    elif [[ $current == -* ]]; then
        while read -r letter name argument; do
            [[ " $words " == *" $name "* ]] || words+=" $name"
        done < <(_tcpecho_options "$1" "${mode[@]}")
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    elif ((operands == 1)); then
        mapfile -t COMPREPLY < <(compgen -A service -- "$current")
    elif [[ $current == */* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    elif ((operands == 0)); then
        mapfile -t COMPREPLY < <(compgen -A hostname -- "$current")
    fi
}
complete -F _tcpecho tcpecho
