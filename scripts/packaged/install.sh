#!/bin/sh
# Puts these files into a PostgreSQL server, or takes them out again.
#
#   ./install.sh [PG_CONFIG]            into the server of this pg_config (default: of Debian's place for this version, or on PATH)
#   ./install.sh --remove [PG_CONFIG]   out of it; first DROP EXTENSION autoembed in each database, and take
#                                       autoembed out of shared_preload_libraries
set -eu
umask 022
# "@PG@" is the PostgreSQL major that the library was built for; a library of one major does not load into another.
major=@PG@

fail() {
  printf 'error: %s\nhint:  %s\n' "$1" "$2" >&2
  exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
remove=no
if [ "${1-}" = --remove ]; then
  remove=yes
  shift
fi
case ${1-} in -*)
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
  exit 2
  ;;
esac

pg_config=${1-}
for candidate in "/usr/lib/postgresql/$major/bin/pg_config" "/usr/pgsql-$major/bin/pg_config"; do
  if [ -z "$pg_config" ] && [ -x "$candidate" ]; then pg_config=$candidate; fi
done
# Debian and Ubuntu have pg_config in their development packages only, and the one on PATH may be another major's.
debian=/usr/lib/postgresql/$major/lib
if [ -z "$pg_config" ] && [ ! -d "$debian" ]; then pg_config=$(command -v pg_config || true); fi
if [ -n "$pg_config" ]; then
  found=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
  [ "$found" = "$major" ] || fail "this package is for PostgreSQL $major, and $pg_config belongs to $found" \
    "take the package for $found, or name another pg_config: $0 /path/to/pg_config"
  lib=$("$pg_config" --pkglibdir)
  share=$("$pg_config" --sharedir)
elif [ -d "$debian" ]; then
  lib=$debian
  share=/usr/share/postgresql/$major
else
  fail "no PostgreSQL $major was found" "name its pg_config: $0 /path/to/pg_config"
fi
[ -w "$lib" ] && [ -w "$share/extension" ] || fail "$lib and $share/extension cannot be written" "run this as the user whom they belong to, as with sudo"

if [ "$remove" = yes ]; then
  (cd "$here/lib" && find . -type f) | while IFS= read -r file; do rm -f "$lib/$file"; done
  (cd "$here/share" && find . -type f) | while IFS= read -r file; do rm -f "$share/$file"; done
  rmdir "$share/autoembed/builtin" "$share/autoembed" 2>/dev/null || true
  echo "removed from $lib and $share"
  exit 0
fi

# Each file is written beside its place and renamed, so that a server which has the old one mapped keeps it whole.
put() {
  (cd "$1" && find . -type f) | while IFS= read -r file; do
    mkdir -p "$(dirname "$2/$file")"
    cp "$1/$file" "$2/$file.new.$$"
    chmod 644 "$2/$file.new.$$"
    mv -f "$2/$file.new.$$" "$2/$file"
  done
}
put "$here/lib" "$lib"
put "$here/share" "$share"
echo "installed into $lib and $share"
if [ ! -f "$share/extension/vector.control" ]; then
  echo "pgvector is not there yet, and autoembed needs it: https://github.com/pgvector/pgvector#installation"
fi
echo "now, in each database that wants it: CREATE EXTENSION autoembed CASCADE;"
