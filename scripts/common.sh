# Sourced by the launchers after changing to the repository: finds files, Python and the number of processes. POSIX sh.
caller=${OLDPWD:-$PWD}

fail() {
    echo "error: $1" >&2
    exit 2
}

need_file() { # need_file PATH WHAT
    [ -n "$1" ] || fail "no $2 given; usage: $usage"
    [ -f "$1" ] || fail "$1: no such $2"
}

# user_path PATH: resolves a user's path in the current folder, then in the repository.
user_path() {
    found=$1
    case $1 in
        '' | /*) ;;
        *) [ "$caller" = "$PWD" ] || [ ! -f "$caller/$1" ] || found=$caller/$1 ;;
    esac
    printf '%s\n' "$found"
}

# need_weights WEIGHTS NEXT_ARGUMENT: checks for a single file, since a pattern such as exp/*/best_model.pt may match several.
need_weights() {
    need_file "$1" "weights file"
    [ ! -f "$(user_path "${2:-}")" ] || fail "several weights files ($1, $2): give only one"
}

# need_number NAME VALUE MIN MAX: checks that VALUE is an integer from MIN to MAX.
need_number() {
    case $2 in
        '' | *[!0-9]* | ??????????*) ;;
        *) [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ] || return 0 ;;
    esac
    fail "$1 is '$2'; it must be an integer from $3 to $4"
}

# Python of the active environment, otherwise that of .venv (run_demo.sh, run_tests.sh), otherwise that of the system.
find_python() {
    if [ -n "${PYTHON:-}" ]; then :
    elif [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python
    elif command -v python >/dev/null 2>&1; then PYTHON=python
    else PYTHON=python3
    fi
}

# NPROC, otherwise the number of visible GPUs, otherwise 1.
count_processes() {
    if [ -n "${NPROC:-}" ]; then need_number NPROC "$NPROC" 1 4096
    elif [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then NPROC=$(echo "$CUDA_VISIBLE_DEVICES" | tr ',' '\n' | grep -c .)
    elif [ -z "${CUDA_VISIBLE_DEVICES-unset}" ]; then NPROC=1
    elif command -v nvidia-smi >/dev/null 2>&1; then NPROC=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
    fi
    [ "${NPROC:-0}" -ge 1 ] 2>/dev/null || NPROC=1
}

# launch SCRIPT ARGUMENTS...: runs one process directly, or several with torchrun, with up to MAX_RESTARTS restarts.
launch() {
    find_python
    count_processes
    need_number MAX_RESTARTS "${MAX_RESTARTS:-0}" 0 1000000
    if [ "$NPROC" -eq 1 ] && [ "${MAX_RESTARTS:-0}" -eq 0 ]; then
        exec "$PYTHON" "$@"
    fi
    exec "$PYTHON" scripts/launch.py --standalone --nproc_per_node "$NPROC" --max_restarts "${MAX_RESTARTS:-0}" "$@"
}

# forward_options SCRIPT WORDS...: --help anywhere shows the help of SCRIPT. If the first word is an option, all words are
# passed to SCRIPT unchanged.
forward_options() {
    script=$1 first=${2:-}
    shift
    for word in "$@"; do
        case $word in -h | --help)
            find_python
            exec "$PYTHON" "$script" --help ;;
        esac
    done
    case $first in -*) launch "$script" "$@" ;; esac
}

# show_help SCRIPT WORDS...: --help anywhere shows the comment at the top of SCRIPT.
show_help() {
    script=$1
    shift
    for word in "$@"; do
        case $word in -h | --help)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$script"
            exit ;;
        esac
    done
}

# Uses the active environment or creates .venv, and installs the requirements if they have changed.
set_up_environment() { # set_up_environment REQUIREMENTS_FILE
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
        # venv writes bin/activate last. An incomplete environment is cleared.
        if [ ! -f .venv/bin/activate ]; then
            echo "creating a virtual environment in .venv"
            clear=
            [ ! -f .venv/pyvenv.cfg ] || clear=--clear
            python3 -m venv $clear .venv || fail "python3 -m venv failed; install Python 3.10 or later with venv"
        fi
        . .venv/bin/activate
    fi
    PYTHON=python
    python -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$(python --version) is too old; Python 3.10 or later is needed"
    stamp="$(python -c 'import sys; print(sys.prefix)')/.installed-$(cat requirements.txt "$1" | cksum | tr -d ' ')"
    if [ ! -f "$stamp" ]; then
        echo "installing $1 (several minutes and GB the first time, including PyTorch)"
        python -m pip install --quiet --disable-pip-version-check -r "$1" || fail "pip could not install $1; see its message above"
        touch "$stamp"
    fi
}
