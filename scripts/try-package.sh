#!/usr/bin/env bash
# Installs a .deb in a fresh root of a distribution, by the very commands of docs/packages.md, uses it, updates it over itself, removes it, and looks for what it
# left. Needs root, debootstrap and the distribution's archive.
#
# The tarball that lies beside the .deb is tried as well.
#
#   scripts/try-package.sh DEB [SUITE...]     SUITE: bookworm, trixie (default: those whose server the package is for), noble
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt roots

[ $# -ge 1 ] && [ -f "$1" ] || die "give the .deb to try" "as in: make package, then make try-package DEB=target/packages/postgresql-17-autoembed_..."
deb=$(readlink -f "$1")
shift
package=$(dpkg-deb -f "$deb" Package)
PG=${package#postgresql-}
PG=${PG%-autoembed}
version=$(dpkg-deb -f "$deb" Version)
tarball=$(dirname "$deb")/autoembed-${version%-*}-pg$PG-linux-$(uname -m).tar.gz
if [ $# = 0 ]; then
  for suite in bookworm trixie; do if [ "$(suite_pg "$suite")" = "$PG" ]; then set -- "$@" "$suite"; fi; done
  [ $# -gt 0 ] || die "no suite has a server of PostgreSQL $PG of its own" "name one"
fi

for suite in "$@"; do
  began=$SECONDS
  fresh_root "$suite"
  # Where everybody may read: apt's own user and the server's do.
  mkdir "$FRESH_ROOT/srv/try"
  cp "$deb" "$FRESH_ROOT/srv/try/"
  if [ -e "$tarball" ]; then cp "$tarball" "$FRESH_ROOT/srv/try/release.tar.gz"; else warn "no $(basename "$tarball") beside it: the tarball is not tried"; fi
  cp "$ROOT/scripts/lib/try.sh" "$FRESH_ROOT/srv/try/"
  # What users are told to type, from the page that tells them.
  for block in install pgvector session remove; do
    documented "$ROOT/docs/packages.md" "$block" "$suite" | sed "s/postgresql-17/postgresql-$PG/g" >"$FRESH_ROOT/srv/try/typed-$block"
  done
  # Where pgvector was built by hand there is no package of it to keep.
  if [ -s "$FRESH_ROOT/srv/try/typed-pgvector" ]; then sed -i '/apt-mark/d' "$FRESH_ROOT/srv/try/typed-remove"; fi
  say "$(basename "$deb") on $suite"
  inside "$FRESH_ROOT" bash /srv/try/try.sh "$PG" "$(basename "$deb")" || die "the package failed on $suite" "its root is still there: $FRESH_ROOT"
  remove_root "$FRESH_ROOT"
  say "$suite: installed, used, updated, removed in $((SECONDS - began)) s"
done
