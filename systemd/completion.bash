# bash completion for tcpechod(8).

_tcpechod() {
    local current=$2 previous=$3
    COMPREPLY=()
    # A word is cut at "=", which stands in front of an option's argument.
    if [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $current == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 1]}
        current=
    fi
    case $previous in
    -c | --config)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        ;;
    -L | --log-level)
        mapfile -t COMPREPLY < <(compgen -W 'error warning notice info debug' -- "$current")
        ;;
    -l | --listen)
        compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -S @ -W 'echo upper discard chargen daytime time' -- "$current")
        ;;
    -p | --port | -w | --workers) ;;
    -R | --reload)
        mapfile -t COMPREPLY < <(compgen -W "$(pidof tcpechod)" -- "$current")
        ;;
    *)
        mapfile -t COMPREPLY < <(compgen -W '--config --listen --port --workers --log-level --reload --test --dump
            --version --help' -- "$current")
        ;;
    esac
}
complete -F _tcpechod tcpechod
