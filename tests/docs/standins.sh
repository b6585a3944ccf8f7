# What the commands of a page mean in a test; sourced before the page's blocks. The reader has two terminals and an
# internet connection, a test has neither.
#   STATE    a folder of the test's own
#   SOURCES  the repository

# Waiting starts no program: on a busy machine a server starts for long, and thousands of them would keep it busy.
mkfifo "$STATE/silence"
exec 9<>"$STATE/silence"
wait_a_moment() { read -rt 0.05 -u 9 || true; }

# Whether a file has a text.
has() {
    local text
    IFS= read -rd '' text <"$1" || true
    [[ $text == *"$2"* ]]
}

# Servers go to the background, as in the reader's other terminal, and the page goes on when they are ready. A server
# that is started where one runs already is a restart: the reader has stopped the first one with Ctrl-C.
unpause() {
    case $1 in
        serve | demo | worker) start_server "$@" ;;
        *) command unpause "$@" ;;
    esac
}

# The reader saves a file, and sees in the other terminal that a server with --reload has loaded it.
save() {
    local log=$STATE/serve.log before=0
    mkdir -p "$(dirname "$1")"
    if [[ -e $log ]]; then before=$(grep -c 'agents reloaded' "$log" || true); fi
    cat >"$1"
    if [[ $1 == *.py && -e $STATE/serve.pid ]] && grep -q -- --reload "$STATE/serve.command"; then
        until (($(grep -c 'agents reloaded' "$log" || true) > before)); do wait_a_moment; done
    fi
}

start_server() {
    local name=$1 word previous=
    for word in "$@"; do
        if [[ $previous == --port ]]; then name=server-$word; fi
        previous=$word
    done
    stop_server "$name"
    printf '%q ' "$@" >"$STATE/$name.command"
    # A model that answers without a key: Pydantic AI's, which calls each tool once.
    if [[ $1 != demo && " $* " != *" --model"* ]]; then local -x UNPAUSE_MODEL=${UNPAUSE_MODEL-test}; fi
    # Agents are loaded anew in agent processes only.
    if [[ " $* " == *" --reload "* ]]; then local -x UNPAUSE_AGENT_PROCESSES=1; fi
    # Before the background process opens it: the log of an earlier start also says that it is ready.
    : >"$STATE/$name.log"
    command unpause "$@" >"$STATE/$name.log" 2>&1 &
    echo $! >"$STATE/$name.pid"
    until has "$STATE/$name.log" ' is ready' || has "$STATE/$name.log" 'process ready'; do
        if ! kill -0 $! 2>/dev/null; then
            cat "$STATE/$name.log" >&2
            return 1
        fi
        wait_a_moment
    done
}

stop_server() {
    local file=$STATE/$1.pid
    if [[ -e $file ]]; then
        kill -INT "$(cat "$file")"
        # It may be no child of this shell.
        while kill -0 "$(<"$file")" 2>/dev/null; do wait_a_moment; done
        rm "$file"
    fi
}

stop_servers() {
    local file
    for file in "$STATE"/*.pid; do
        if [[ -e $file ]]; then stop_server "$(basename "$file" .pid)"; fi
    done
}

# The unit is the server that the page has started.
systemctl() {
    case $1 in
        stop) stop_servers ;;
        start | restart)
            stop_servers
            eval "start_server $(cat "$STATE/serve.command")"
            ;;
        *) return 1 ;;
    esac
}

sudo() { "$@"; }

pgrep() { cat "$STATE/serve.pid"; }

# Everything is installed. `test_pages.py` looks whether the extras exist; the long form of the tests installs the
# package as the tutorial says.
pip() { :; }

python3() {
    case "$*" in
        ".ci/demo.py"*) unpause demo "${@:2}" ;;
        "-m venv "*) mkdir -p "$3/bin" && : >"$3/bin/activate" ;;
        *) command python "$@" ;;
    esac
}

trap stop_servers EXIT
