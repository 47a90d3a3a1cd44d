# The files of a release as folders, from which all packages are made; sourced, never run. Needs common.sh and package.sh.
# Gives: release_tree, package_name, same_time, tar_gz.

# What the tarball and its folder are called.
package_name() { printf 'autoembed-%s-pg%s-linux-%s' "$(package_version)" "$PG" "$(uname -m)"; }

# release_tree BUILT DIR: what build_package has made in BUILT, as lib, share and documentation in DIR.
release_tree() {
  local built=$1 out=$2 lib=$2/lib share=$2/share
  rm -rf "$out"
  mkdir -p "$lib" "$share"
  cp "$built$("$PG_CONFIG" --pkglibdir)/autoembed.so" "$lib/"
  cp -R "$built$("$PG_CONFIG" --sharedir)"/. "$share/"
  # The line tables are for those who debug their own build: they are most of the file.
  strip --strip-unneeded --remove-section=.comment "$lib/autoembed.so"
  documents "$out"
  sed "s/@PG@/$PG/g" "$ROOT/scripts/packaged/install.sh" >"$out/install.sh"
  find "$out" -type d -exec chmod 755 {} +
  find "$out" -type f -exec chmod 644 {} +
  chmod 755 "$out/install.sh"
}

# Laid out as in the repository, so that the links between them hold.
documents() {
  local out=$1
  cp "$ROOT/README.md" "$ROOT/CONTRIBUTING.md" "$ROOT/CHANGELOG.md" "$ROOT/LICENSE" "$ROOT/META.json" "$out/"
  mkdir -p "$out/docs"
  cp "$ROOT"/docs/*.md "$out/docs/"
  cp -R "$ROOT/docs/performance" "$ROOT/docs/how-it-works" "$out/docs/"
  # Without what readers have brought there.
  tar -C "$ROOT" --exclude=node_modules --exclude=__pycache__ --exclude=.venv --exclude=target --exclude=examples/clients/rust/Cargo.lock -cf - examples |
    tar -C "$out" -xf -
  "$ROOT/scripts/licences.py" --notices >"$out/THIRD-PARTY-NOTICES"
}

# Everything below DIR bears the commit's time.
same_time() { find "$1" -exec touch --no-dereference --date "@$(commit_time)" {} +; }

# tar_gz DIR FILE: the same bytes for the same contents, whoever packs them, wherever and whenever.
tar_gz() {
  same_time "$1"
  tar -C "$(dirname "$1")" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mtime "@$(commit_time)" -cf - "$(basename "$1")" |
    gzip -9n >"$2"
}
