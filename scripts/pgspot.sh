#!/usr/bin/env bash
# pgspot on the install script and on each update script: names that a search_path could turn into something else, objects
# that somebody could have made beforehand.
set -euo pipefail
export LC_ALL=C.UTF-8
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib
for part in common apt; do
  # shellcheck source=/dev/null
  . "$lib/$part.sh"
done

# It pins the parser that it uses itself.
VERSION=0.9.4
VENV=$CACHE/tools/pgspot-$VERSION

# Installed once; whole or not at all: the mark is made last.
ensure_pgspot() {
  if [ -e "$VENV/whole" ]; then return; fi
  # Debian keeps ensurepip, without which there is no pip in an environment, in a package of its own.
  { have python3 && python3 -c 'import ensurepip' 2>/dev/null; } || apt_install "Python with venv, for pgspot" python3 python3-venv
  say "installing pgspot $VERSION into $VENV"
  rm -rf "$VENV"
  mkdir -p "$(dirname "$VENV")"
  python3 -m venv "$VENV" || die "python3 cannot make an environment of its own" "see the message above"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check "pgspot==$VERSION" ||
    die "pgspot $VERSION could not be installed, so the SQL scripts are not checked" \
      "it comes from PyPI, or from the index that pip is configured for"
  touch "$VENV/whole"
}

# check WHAT FILE...: the last file, after what those before it have made.
check() {
  local what=$1
  shift
  say "$what"
  "$VENV/bin/pgspot" --append "$@" || die "pgspot finds fault with $what" "it explains a code with: $VENV/bin/pgspot --explain PS017"
}

ensure_pgspot
install_script=$(mktemp)
trap 'rm -f "$install_script"' EXIT
cat "$ROOT"/sql/0*.sql >"$install_script"
[ -s "$install_script" ] || die "there is no install script in $ROOT/sql"
check "the install script" "$install_script"
shopt -s nullglob
for script in "$ROOT"/sql/autoembed--*--*.sql; do
  check "$(basename "$script")" "$install_script" "$script"
done
