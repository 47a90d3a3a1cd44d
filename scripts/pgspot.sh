#!/usr/bin/env bash
# pgspot on the install script and on each update script: names that a search_path could turn into something else, objects
# that somebody could have made beforehand. Then on scripts with traps, which it must find.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt

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

# look FILE...: whether pgspot finds nothing in the last file, after what those before it have made.
look() { "$VENV/bin/pgspot" --append "$@"; }

# check_folder DIR: its install script, which is in parts, and each of its update scripts, after the install script of the version that it
# begins at. A file that is neither would be looked at by nobody.
check_folder() {
  local folder=$1 install script name from
  install=$TEMPORARY/install.sql
  cat "$folder"/[0-9][0-9]_*.sql >"$install" || return
  say "the install script"
  look "$install" || return
  for script in "$folder"/*.sql; do
    name=$(basename "$script")
    case $name in
    [0-9][0-9]_*.sql) ;;
    autoembed--*--*.sql)
      say "$name"
      from=${name#autoembed--}
      from=$folder/released/autoembed--${from%%--*}.sql
      if [ ! -e "$from" ]; then from=$install; fi
      # psql's own commands are not SQL.
      sed 's/^\\echo .*//' "$script" >"$TEMPORARY/update.sql"
      look "$from" "$TEMPORARY/update.sql" || return
      ;;
    *)
      say "$name is neither a part of the install script nor an update script"
      return 1
      ;;
    esac
  done
}

# What it must find fault with, as an update script: each a trap that somebody could fall into.
TRAPS=(
  "CREATE SCHEMA IF NOT EXISTS trap;"
  "CREATE FUNCTION autoembed.trap() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
  "CREATE FUNCTION autoembed.trap() RETURNS int LANGUAGE sql AS 'SELECT 1 + 1';"
  "CREATE FUNCTION autoembed.trap() RETURNS int LANGUAGE sql SET search_path = public AS 'SELECT 1';"
  "CREATE OR REPLACE FUNCTION public.trap() RETURNS int LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 1';"
  "CREATE AGGREGATE trap(int) (SFUNC = int4pl, STYPE = int);"
  "CREATE TABLE trap (id int);"
  "CREATE VIEW autoembed.trap AS SELECT now() AS at;"
  "CREATE VIEW autoembed.trap AS SELECT m.name FROM autoembed.models m WHERE m.dimensions = 3;"
  "UPDATE autoembed.models SET url = url || '/v1';"
  "SELECT set_config('search_path', 'public', false);"
)

# A check that finds nothing anywhere proves nothing.
check_the_check() {
  local folder=$TEMPORARY/sql bait
  mkdir "$folder"
  cp "$ROOT"/sql/[0-9][0-9]_*.sql "$folder"
  for bait in "${TRAPS[@]}"; do
    printf '%s\n' "$bait" >"$folder/autoembed--0.0.1--0.0.2.sql"
    if check_folder "$folder" >"$TEMPORARY/found" 2>&1; then
      die "pgspot finds no fault with an update script that has a trap: $bait"
    fi
    grep -q "PS[0-9]" "$TEMPORARY/found" || die "pgspot could not look at this: $bait" "$(tail -n 3 "$TEMPORARY/found")"
  done
  say "${#TRAPS[@]} traps were found"
}

ensure_pgspot
TEMPORARY=$(mktemp -d)
trap 'rm -rf "$TEMPORARY"' EXIT
check_folder "$ROOT/sql" || die "pgspot finds fault with $ROOT/sql" "it explains a code with: $VENV/bin/pgspot --explain PS017"
check_the_check
