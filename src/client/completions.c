/* Writes the completion of tcpecho(1) for a shell, from its table of options, while it is built:
 *
 *     completions bash|zsh|fish >FILE */

#include "base/streams.h"
#include "client/options.h"

#include <stdio.h>
#include <string.h>

static bool is_in_mode(const struct option_row *row, unsigned modes)
{
    return (row->modes & modes) != 0;
}

/* The first row of its name among those of these modes, of which the completion tells. */
static bool is_first(const struct option_row *row, unsigned modes)
{
    for (const struct option_row *other = option_table; other != row; other++)
        if (is_in_mode(other, modes) && strcmp(other->name, row->name) == 0)
            return false;
    return is_in_mode(row, modes);
}

/* What an argument may be, where that is a list of words. */
static const struct {
    const char *argument, *words;
} lists[] = {
    {"SERVICE", "echo upper"},
    {"TOS", "ef af11 af12 af13 af21 af22 af23 af31 af32 af33 af41 af42 af43"
            " cs0 cs1 cs2 cs3 cs4 cs5 cs6 cs7"},
    {"VERSION", "1 2"},
};
#define LISTS (sizeof lists / sizeof lists[0])

/* What an argument may be, where the shell has to look for it. Bash has its own in bash_offers. */
static const struct offer {
    const char *argument, *zsh, *fish;
} offers[] = {
    {"FILE", "_files", "-r -F"},
    {"ADDRESS", "_tcpecho_sources", "-x -a '(__tcpecho_sources)'"},
    {"PORT", "_ports", "-x -a '(__tcpecho_services)'"},
};

static const struct offer *find_offer(const char *argument)
{
    static const struct offer nothing = {"", " ", "-x"};
    for (size_t i = 0; i < sizeof offers / sizeof offers[0]; i++)
        if (strcmp(argument, offers[i].argument) == 0)
            return &offers[i];
    return &nothing;
}

static const char *find_list(const char *argument)
{
    for (size_t i = 0; i < LISTS; i++)
        if (strcmp(argument, lists[i].argument) == 0)
            return lists[i].words;
    return NULL;
}

/* Addresses to connect from, for any shell; one of a link would need its interface. */
#define PRINT_ADDRESSES                                                                                      \
    "ip -o address show 2>/dev/null | sed -n '/ scope link/d; s/^.* inet6* \\([^/ ]*\\).*/\\1/p'"

/* ---- bash: what each mode has, and a function that looks there ---- */

static const char bash_words[] =
    "# From where to connect.\n"
    "_tcpecho_sources() {\n"
    "    printf '%s\\n' /sys/class/net/* | sed 's,.*/,,'\n"
    "    " PRINT_ADDRESSES "\n"
    "}\n\n"
    "_tcpecho() {\n"
    "    local current=$2 mode='' wanted='' operands=0 word option argument i\n"
    "    local typed=${COMP_LINE:0:COMP_POINT} before='' within=''\n"
    "    local -A arguments=()\n"
    "    COMPREPLY=()\n"
    "    # For bash, \":\" ends a word: what stands after it in an address is none of ours.\n"
    "    [[ ${typed##*[[:space:]]} != *:* ]] || return 0\n"
    "    for word in \"${COMP_WORDS[@]:1}\"; do\n"
    "        [[ \" ${_tcpecho_modes[*]} \" != *\" $word \"* ]] || mode=$word\n"
    "    done\n"
    "    while read -r option argument; do\n"
    "        arguments[$option]=$argument\n"
    "    done < <(_tcpecho_options \"$mode\")\n"
    "    # \"--option=value\" is three words for bash.\n"
    "    [[ $current != = ]] || current=\n"
    "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
    "        if [[ $word == = ]]; then\n"
    "            continue\n"
    "        elif [[ -n $within || $word == : || $word == :: ]]; then\n"
    "            within=\n"
    "            [[ $word != :* ]] || within=1\n"
    "            continue\n"
    "        elif [[ -n $wanted ]]; then\n"
    "            wanted=\n"
    "        elif [[ $word == --* ]]; then\n"
    "            wanted=${arguments[$word]}\n"
    "        elif [[ $word != -* ]]; then\n"
    "            ((++operands))\n"
    "        fi\n"
    "        # What follows a letter that takes an argument is the argument.\n"
    "        for ((i = 1; i < ${#word}; i++)); do\n"
    "            [[ $word == -[!-]* && -n ${arguments[-${word:i:1}]} ]] || continue\n"
    "            ((i < ${#word} - 1)) || wanted=${arguments[-${word:i:1}]}\n"
    "            break\n"
    "        done\n"
    "    done\n";

static const char bash_offers[] =
    "    FILE)\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
    "        ;;\n"
    "    ADDRESS)\n"
    "        # --bench takes several.\n"
    "        [[ $mode != --bench || $current != *,* ]] || before=${current%,*},\n"
    "        mapfile -t COMPREPLY < <(compgen -P \"$before\" -W \"$(_tcpecho_sources)\" -- "
    "\"${current#\"$before\"}\")\n"
    "        ;;\n"
    "    PORT) mapfile -t COMPREPLY < <(compgen -A service -- \"$current\") ;;\n"
    "    ?*) ;;\n"
    "    *)\n"
    "        if [[ $current == -* ]]; then\n"
    "            # In the order of the help.\n"
    "            option=$(_tcpecho_options \"$mode\" | sed -n 's/^\\(--[^ ]*\\).*/\\1/p')\n"
    "            mapfile -t COMPREPLY < <(compgen -W \"$option\" -- \"$current\")\n"
    "        elif [[ $current == */* ]]; then\n"
    "            compopt -o filenames 2>/dev/null\n"
    "            mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
    "        elif ((operands == 0)); then\n"
    "            mapfile -t COMPREPLY < <(compgen -A hostname -- \"$current\")\n"
    "        elif ((operands == 1)); then\n"
    "            mapfile -t COMPREPLY < <(compgen -A service -- \"$current\")\n"
    "        fi\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _tcpecho tcpecho\n";

static void print_bash_options(unsigned modes)
{
    for (const struct option_row *row = option_table; row->name; row++) {
        const char *argument = row->argument ? row->argument : "";
        if (!is_first(row, modes))
            continue;
        if (row->letter)
            printf("-%c %s\n", row->letter, argument);
        printf("--%s %s\n", row->name, argument);
    }
}

static void print_bash(void)
{
    fputs("# bash completion for tcpecho(1), made from its table of options.\n\n_tcpecho_modes=(", stdout);
    for (enum client_mode mode = 0; mode < MODE_COUNT; mode++)
        if (mode_table[mode].option)
            printf(" --%s", mode_table[mode].option);
    fputs(" )\n\n"
          "# The options of a mode, or of all: each letter and name, and what its argument is called.\n"
          "_tcpecho_options() {\n"
          "    case $1 in\n",
          stdout);
    for (enum client_mode mode = 0; mode < MODE_COUNT; mode++) {
        if (!mode_table[mode].option)
            continue;
        printf("    --%s) cat <<'END' ;;\n", mode_table[mode].option);
        print_bash_options(MODE_BIT(mode));
        fputs("END\n", stdout);
    }
    fputs("    *) cat <<'END' ;;\n", stdout);
    print_bash_options(EVERY_MODE);
    printf("END\n    esac\n}\n\n%s    case $wanted in\n", bash_words);
    for (size_t i = 0; i < LISTS; i++)
        printf("    %s) mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$current\") ;;\n", lists[i].argument,
               lists[i].words);
    fputs(bash_offers, stdout);
}

/* ---- zsh: _arguments for each mode ---- */

static void print_escaped(const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\'", stdout);
        else if (strchr(special, *text))
            putchar('\\');
        putchar(*text);
    }
}

static void print_zsh_action(const char *argument)
{
    const char *list = find_list(argument);
    if (list)
        printf("(%s)", list);
    else
        fputs(find_offer(argument)->zsh, stdout);
}

static void print_zsh_option(const struct option_row *row)
{
    if (row->letter)
        printf(" \\\n        '(-%c --%s)'{-%c%s,--%s%s}'[", row->letter, row->name, row->letter,
               row->argument ? "+" : "", row->name, row->argument ? "=" : "");
    else
        printf(" \\\n        '--%s%s[", row->name, row->argument ? "=" : "");
    print_escaped(row->help, "[]:\\");
    putchar(']');
    if (row->argument) {
        putchar(':');
        print_escaped(row->argument, "[]:\\");
        putchar(':');
        print_zsh_action(row->argument);
    }
    putchar('\'');
}

static void print_zsh(void)
{
    fputs("#compdef tcpecho\n# zsh completion for tcpecho(1), made from its table of options.\n\n"
          "# From where to connect.\n"
          "_tcpecho_sources() {\n    _net_interfaces\n    compadd -- $(" PRINT_ADDRESSES ")\n}\n\n"
          "_tcpecho_hosts() {\n    if [[ $PREFIX == */* ]]; then _files; else _hosts; fi\n}\n\n"
          "# After a HOST of --ping: its port, or another HOST.\n"
          "_tcpecho_seconds() {\n    _alternative 'ports:port:_ports' 'hosts:host:_tcpecho_hosts'\n}\n\n"
          "local word mode=''\nfor word in $words; do\n    case $word in\n    ",
          stdout);
    for (enum client_mode mode = 0, first = 1; mode < MODE_COUNT; mode++)
        if (mode_table[mode].option) {
            printf("%s--%s", first ? "" : "|", mode_table[mode].option);
            first = 0;
        }
    fputs(") mode=$word ;;\n    esac\ndone\ncase $mode in\n", stdout);
    for (enum client_mode mode = MODE_COUNT; mode-- > 0;) {
        const struct mode_row *row = &mode_table[mode];
        unsigned modes = row->option ? MODE_BIT(mode) : EVERY_MODE;
        printf("%s%s)\n    _arguments -s -S :", row->option ? "--" : "", row->option ? row->option : "*");
        for (const struct option_row *option = option_table; option->name; option++)
            if (is_first(option, modes))
                print_zsh_option(option);
        if (row->has_host)
            fputs(mode == MODE_PING
                      ? " \\\n        '1:host:_tcpecho_hosts' '2: :_tcpecho_seconds' '*:host:_tcpecho_hosts'"
                      : " \\\n        '1:host:_tcpecho_hosts' '2:port:_ports'",
                  stdout);
        fputs("\n    ;;\n", stdout);
    }
    fputs("esac\n", stdout);
}

/* ---- fish: a line an option ---- */

/* "or __fish_contains_opt ping bench": the line is of these modes. */
static void print_fish_condition(unsigned modes)
{
    bool has_talk = (modes & MODE_BIT(MODE_TALK)) != 0;
    unsigned named = has_talk ? EVERY_MODE & ~modes : modes;
    if (named == 0)
        return;
    printf(" -n '%s__fish_contains_opt", has_talk ? "not " : "");
    for (enum client_mode mode = 0; mode < MODE_COUNT; mode++)
        if ((named & MODE_BIT(mode)) != 0 && mode_table[mode].option)
            printf(" %s", mode_table[mode].option);
    putchar('\'');
}

static void print_fish_argument(const char *argument)
{
    const char *list = argument ? find_list(argument) : NULL;
    if (!argument)
        return;
    if (list)
        printf(" -x -a '%s'", list);
    else
        printf(" %s", find_offer(argument)->fish);
}

static const char fish_functions[] =
    "# fish completion for tcpecho(1), made from its table of options.\n\n"
    "function __tcpecho_sources -d 'From where to connect'\n"
    "    __fish_print_interfaces\n    " PRINT_ADDRESSES "\nend\n\n"
    "function __tcpecho_services -d 'Names of ports'\n"
    "    sed -n 's,^\\([a-z][^[:space:]]*\\)[[:space:]]*[0-9]*/tcp.*,\\1,p' /etc/services "
    "2>/dev/null\nend\n\n"
    "function __tcpecho_operands -d 'HOST, PORT, or of --ping several HOSTs'\n"
    "    set -l words (commandline -opc)\n"
    "    set -l current (commandline -ct)\n"
    "    set -l operands 0\n"
    "    set -l is_argument no\n"
    "    set -e words[1]\n"
    "    for word in $words\n"
    "        if test $is_argument = yes\n"
    "            set is_argument no\n"
    "        else if string match -qr -- $__tcpecho_awaits_argument $word\n"
    "            set is_argument yes\n"
    "        else if not string match -q -- '-*' $word\n"
    "            set operands (math $operands + 1)\n"
    "        end\n"
    "    end\n"
    "    if string match -q -- '*/*' $current\n"
    "        __fish_complete_path $current\n"
    "        return\n"
    "    end\n"
    "    if test $operands = 1\n"
    "        __tcpecho_services\n"
    "    end\n"
    "    if test $operands = 0; or __fish_contains_opt ping\n"
    "        __fish_print_hostnames\n"
    "    end\n"
    "end\n\n"
    "complete -c tcpecho -f\n"
    "complete -c tcpecho -n 'not __fish_contains_opt listen' -a '(__tcpecho_operands)'\n";

/* Letters, each once, of options with an argument or without. */
static void print_letters(bool with_argument)
{
    for (const struct option_row *row = option_table; row->name; row++) {
        const struct option_row *first = option_table;
        while (first->letter != row->letter)
            first++;
        if (row->letter && first == row && !row->argument != with_argument)
            putchar(row->letter);
    }
}

/* A word after which comes its argument: a name, or letters of which the last has one. */
static void print_fish_awaits_argument(void)
{
    fputs("set -g __tcpecho_awaits_argument '^(-[", stdout);
    print_letters(false);
    fputs("]*[", stdout);
    print_letters(true);
    fputs("]", stdout);
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->argument && is_first(row, EVERY_MODE))
            printf("|--%s", row->name);
    fputs(")$'\n\n", stdout);
}

static void print_fish(void)
{
    fputs(fish_functions, stdout);
    print_fish_awaits_argument();
    for (const struct option_row *row = option_table; row->name; row++) {
        fputs("complete -c tcpecho", stdout);
        if (row->type != OPTION_MODE) /* a mode is what there is to choose */
            print_fish_condition(row->modes);
        if (row->letter)
            printf(" -s %c", row->letter);
        printf(" -l %s", row->name);
        print_fish_argument(row->argument);
        fputs(" -d '", stdout);
        print_escaped(row->help, "\\");
        fputs("'\n", stdout);
    }
}

int main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

    for (size_t i = 0; argc == 2 && i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(argv[1], shells[i].name) == 0) {
            shells[i].print();
            return print_finish(stdout) < 0 ? 1 : 0;
        }
    fputs("usage: completions bash|zsh|fish\n", stderr);
    return 1;
}
