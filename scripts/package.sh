#!/usr/bin/env bash
# Builds the release for PostgreSQL PG and makes its packages in target/packages: a tarball for any Linux, a .deb where dpkg is there.
#
#   scripts/package.sh                builds, packs, checks
#   scripts/package.sh --built DIR    packs and checks what was built in DIR, as by make install
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage apt deb

[ "$(uname -s)" = Linux ] || die "packages are made on Linux" "make install installs into this machine's server"
have python3 || apt_install "Python, which gathers the licences" python3
have strip || apt_install "strip and readelf" binutils
if have dpkg-deb; then ensure_deb_tools; fi
built=$TARGET/release/autoembed-pg$PG
if [ "${1-}" = --built ]; then
  built=$2
else
  stage "build the extension" build_package "$built"
fi
stage "pack" "$ROOT/scripts/packing.sh" pack "$built"
stage "look at the packages" "$ROOT/scripts/packing.sh" check "$built"
if [ "${1-}" != --built ]; then stage "pack again" "$ROOT/scripts/packing.sh" again "$built"; fi
say "packaged, in $TARGET/packages:"
cd "$TARGET/packages"
awk '{ print $2 }' "SHA256SUMS-pg$PG" | xargs du -h | sed 's/^/    /'
