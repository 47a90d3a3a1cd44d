#!/usr/bin/env bash
# Builds a tarball of the extension for PostgreSQL PG, laid out as under /, in the target directory.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"
. "$ROOT/scripts/lib/stage.sh"

version=$(sed -nE 's/^version *= *"(.*)"/\1/p' Cargo.toml | head -n 1)
out=$TARGET/release/autoembed-pg$PG
tarball=$TARGET/autoembed-$version-pg$PG-$(uname -m).tar.gz
stage "build the extension" build_package "$out"
tar -C "$out" --owner=0 --group=0 --sort=name -czf "$tarball" .
say "packaged: $tarball ($(du -h "$tarball" | cut -f1))"
echo "    To install it on another machine: sudo tar --no-overwrite-dir -C / -xzf $(basename "$tarball")"
