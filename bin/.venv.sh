# Sourced by the commands in bin/: makes $root/.venv hold this checkout and the extras asked for.
#
#     . "${BASH_SOURCE[0]%/*}/.venv.sh"; venv test dev     sets $root and $python
#
# When everything is there this costs a few milliseconds: no Python and no pip is started, one stamp
# is compared. The stamp names what .venv was made from: pyproject.toml, the interpreter and the
# place of the checkout (an editable install holds absolute paths); its second line lists the extras.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
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

_venv_ready() {  # EXTRA...: does the stamp say that all of it is there?
    [[ -x $python && -r $stamp ]] || return 1
    local made extras extra
    { read -r made && read -r extras; } <"$stamp" || return 1
    [[ $made == "$(_venv_source)" ]] || return 1
    for extra in "$@"; do
        [[ " $extras " == *" $extra "* ]] || return 1
    done
}

_venv_source() {  # what a .venv made now would be made from
    local sum
    sum=$(sha256sum <"$root/pyproject.toml" 2>/dev/null || shasum -a 256 <"$root/pyproject.toml")
    echo "${sum%% *} $(readlink -f "$python") $root"
}

_venv_base() {  # the interpreter to make it with
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

_venv_make() {  # BASE EXTRA...
    local base=$1 made="" extras="core" extra log
    shift
    [[ -r $stamp ]] && { read -r made && read -r extras; } <"$stamp"
    for extra in "$@"; do
        [[ " $extras " == *" $extra "* ]] || extras+=" $extra"
    done
    echo "meshcore: preparing .venv ($extras); this takes a moment and happens once" >&2
    rm -f -- "$stamp"  # whatever interrupts this, the next command starts over
    # Of another interpreter, another place or half made: from nothing. Else only what is missing.
    if [[ -z $made || ${made#* } != "$(readlink -f "$python") $root" ]]; then
        _venv_run "$base" -m venv --clear "$root/.venv"
    fi
    local wanted=${extras#core}
    wanted=${wanted# }
    _venv_run "$python" -m pip install --disable-pip-version-check --no-input --quiet \
        --editable "$root${wanted:+[${wanted// /,}]}"
    printf '%s\n%s\n' "$(_venv_source)" "$extras" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
}

_venv_run() {  # quiet unless it fails
    local log
    if ! log=$("$@" 2>&1 </dev/null 9>&-); then
        printf '%s\n' "$log" | tail -n 20 >&2
        echo "meshcore: could not prepare .venv: ${*:1:3} ... failed, see above" >&2
        exit 2
    fi
}
