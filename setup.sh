#!/bin/sh
# Make or renew .venv from requirements.lock, with the extras asked for.  usage: sh setup.sh [EXTRA,EXTRA...]
# Extras are remembered in .venv/.extras: a renewal brings them back.
set -eu
cd "$(dirname "$0")"

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

say() {
  printf '%s\n' "$1" >&2
}

# .venv may be first in PATH, or active: it holds no uv and no pip
outside() {
  set -f
  IFS=:
  for folder in $PATH; do
    [ "$folder" -ef .venv/bin ] || printf '%s' "$folder:"
  done
}

pythons() {
  set -f
  IFS=:
  for folder in $PATH; do
    [ ! -x "$folder/python3" ] || printf '%s\n' "$folder/python3"
  done
}

# sets $uv and, where it is a module of a Python, $python
find_uv() {
  if uv=$(command -v uv); then
    return 0
  fi
  while read -r python; do
    if "$python" -m uv --version >/dev/null 2>&1; then
      return 0
    fi
  done <<END
$(pythons)
END
  return 1
}

install_uv() {
  say "uv, which installs packages, is not there: installing it with pip"
  python3 -m pip install --quiet --user uv 2>/dev/null ||
    python3 -m pip install --quiet --user --break-system-packages uv 2>/dev/null ||
    python3 -m pip install --quiet uv
}

run_uv() {
  if [ -n "$uv" ]; then "$uv" "$@"; else "$python" -m uv "$@"; fi
}

PATH=$(outside)
PATH=${PATH%:}
unset VIRTUAL_ENV
there=$(sed -n '/^\[project.optional-dependencies\]/,/^$/s/^\([a-z0-9]*\) = .*/\1/p' pyproject.toml | tr '\n' ' ')
[ ! -f .venv/.extras ] || set -- "${1-} $(cat .venv/.extras)"
extras=$(printf '%s' "${1-}" | tr ', ' '\n\n' | sort -u | grep . || true)
for extra in $extras; do
  case " $there" in
    *" $extra "*) ;;
    *) fail "EXTRAS=$extra: expected some of: $there" ;;
  esac
done
[ ! -L .venv ] || fail ".venv is a link to another checkout's environment: remove the link"
find_uv || { install_uv && find_uv; } || fail "make setup needs uv: install it, or pip"
if [ ! .venv/.ready -nt requirements.lock ]; then
  say "making .venv of $(grep -c '^[a-z0-9].*==' requirements.lock) packages, the ones of requirements.lock; the first time they are downloaded"
  run_uv venv --quiet --allow-existing --python ">=3.11,<3.14" .venv
  run_uv pip sync --require-hashes --python .venv requirements.lock
  run_uv pip install --quiet --no-deps --python .venv --editable .
fi
if [ -n "$extras" ]; then
  say "with the extras $(printf '%s' "$extras" | tr '\n' ' ')"
  # shellcheck disable=SC2046 # one word for each
  run_uv pip install --python .venv --constraint requirements.lock --requirement pyproject.toml \
    $(printf ' --extra %s' $extras)
  printf '%s\n' "$extras" >.venv/.extras
fi
touch .venv/.ready
say ".venv is ready: .venv/bin/melcache --help; next: make demo"
