# Sourced by the commands in bin/: makes $root/.venv hold this checkout and the extras asked for.
#
#     here=$(readlink -f -- "${BASH_SOURCE[0]}")
#     . "${here%/*}/.venv.sh"
#     venv test dev                        # then there are $root and $python
#
# When everything is there, no process is started, only a stamp is compared. Its lines: the real path
# of the interpreter; the place of the checkout (an editable install holds absolute paths); the extras;
# and then pyproject.toml as it was.

root=${here%/*/*}
python=$root/.venv/bin/python

venv() {
    local stamp=$root/.venv/meshcore.stamp
    _venv_ready "$@" && return
    local base
    base=$(_venv_base) || exit 2
    # The lock belongs to the open file, so it ends with this shell, however that ends.
    exec 9>>"$root/.venv.lock"
    "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || {
        echo "meshcore: waiting for another command that prepares .venv" >&2
        "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    }
    _venv_ready "$@" || _venv_make "$base" "$@"
    exec 9>&-
}

_venv_ready() { # EXTRA...: does the stamp say that all of it is there?
    local base place extras was is extra
    _venv_same_place || return 1
    # read -d "" takes a whole file and then fails, for it finds no NUL.
    { read -r base && read -r place && read -r extras && ! IFS= read -r -d "" was; } <"$stamp"
    ! IFS= read -r -d "" is <"$root/pyproject.toml"
    [[ $was == "$is" ]] || return 1
    for extra in "$@"; do
        [[ " $extras " == *" $extra "* ]] || return 1
    done
}

_venv_same_place() { # is .venv whole, of the interpreter that it was made with, and not moved?
    local base place
    [[ -x $python && -r $stamp ]] || return 1
    { read -r base && read -r place; } <"$stamp" || return 1
    [[ $place == "$root" && $python -ef $base ]]
}

_venv_base() { # the interpreter to make it with
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "meshcore: needs Python 3.11 or newer; found $(python3 --version 2>&1 || :)" >&2
    return 1
}

_venv_make() { # BASE EXTRA...
    local base=$1 anew=1 extras="core" extra wanted
    shift
    if [[ -r $stamp ]]; then
        { read -r _ && read -r _ && read -r extras; } <"$stamp" || extras="core"
    fi
    if _venv_same_place; then anew=0; fi
    for extra in "$@"; do
        [[ " $extras " == *" $extra "* ]] || extras+=" $extra"
    done
    wanted=${extras#core}
    wanted=${wanted# }
    echo "meshcore: preparing .venv ($extras); this takes a moment and happens once" >&2
    rm -f -- "$stamp" # whatever interrupts this, the next command starts over
    if ((anew)); then _venv_run "$base" -m venv --clear "$root/.venv"; fi
    cp -- "$root/pyproject.toml" "$stamp.pyproject" # as it is now, should it change meanwhile
    _venv_run "$python" -m pip install --disable-pip-version-check --no-input --quiet \
        --editable "$root${wanted:+[${wanted// /,}]}"
    # Compiled now, also where PYTHONDONTWRITEBYTECODE is set: it halves the start of every command.
    _venv_run "$python" -m compileall -q "$root/meshcore" || :
    {
        printf '%s\n' "$(readlink -f -- "$python")" "$root" "$extras"
        cat -- "$stamp.pyproject"
    } >"$stamp.new"
    rm -f -- "$stamp.pyproject"
    mv -- "$stamp.new" "$stamp"
}

_venv_run() { # quiet unless it fails
    local log
    if ! log=$("$@" 2>&1 </dev/null 9>&-); then
        printf '%s\n' "$log" | tail -n 20 >&2
        echo "meshcore: could not prepare .venv: ${*:1:3} ... failed, see above" >&2
        exit 2
    fi
}
