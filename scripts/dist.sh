#!/usr/bin/env bash
# The sources of the commit that is checked out, as a zip that PGXN takes and as a tarball, in target/packages. Needs no server and no
# compiler.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common package

"$ROOT/scripts/meta.py" || die "META.json is not what PGXN takes, or versions differ" "each fault is named above"
git -C "$ROOT" diff --quiet HEAD || warn "what is not committed is not in the archives"
name=autoembed-$(package_version)
out=${CARGO_TARGET_DIR:-$ROOT/target}/packages
mkdir -p "$out"
# With UTC, since a zip has local times. Members bear the time of the commit.
TZ=UTC git -C "$ROOT" archive --format=zip -9 --prefix="$name/" -o "$out/$name.zip" HEAD
TZ=UTC git -C "$ROOT" archive --format=tar --prefix="$name/" HEAD | gzip -9n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.zip" "$name.tar.gz" >SHA256SUMS-sources)
say "sources, in $out:"
(cd "$out" && du -h "$name.zip" "$name.tar.gz" | sed 's/^/    /')
