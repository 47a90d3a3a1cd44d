#!/usr/bin/env bash
# Builds the packages of the commit that is checked out twice, in different folders, with cargo's own folder at different places: every byte
# must be the same. They stay in target/packages. Two release builds from nothing, so ten to twenty-five minutes.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage

git diff --quiet HEAD || warn "what is not committed is not looked at"
# Of one commit, even if there is another one before the second build begins.
commit=$(git rev-parse HEAD)
work=$TARGET/reproducible
# The folders stay where the packages differ, to be looked at.
rm -rf "$work"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}

# built DIR CARGO_HOME: the packages of the commit, from sources in DIR, in DIR/target/packages.
built() {
  mkdir -p "$1"
  git archive --format=tar "$commit" | tar -C "$1" -xf -
  env -u CARGO_TARGET_DIR CARGO_HOME="$2" PG="$PG" PG_CONFIG="$PG_CONFIG" "$1/scripts/package.sh"
}

elsewhere=$work/a-folder-with-a-longer-name
mkdir -p "$elsewhere/cargo"
for entry in "$cargo_home"/*; do ln -s "$entry" "$elsewhere/cargo/"; done
stage "the first build" built "$work/one" "$cargo_home"
stage "the second build, elsewhere" built "$elsewhere/tree" "$elsewhere/cargo"
for file in "$work"/one/target/packages/*; do
  other=$elsewhere/tree/target/packages/$(basename "$file")
  cmp "$file" "$other" || die "two builds of the same commit differ: $(basename "$file")" "look at $file and $other, as with diffoscope"
done
say "the same bytes, twice:"
sed 's/^/    /' "$work/one/target/packages/SHA256SUMS-pg$PG"
mkdir -p "$TARGET/packages"
# Those that lie there may be the ones to be published, with a maintainer's name in them.
for file in "$work"/one/target/packages/*; do
  there=$TARGET/packages/$(basename "$file")
  if [ ! -e "$there" ]; then
    cp "$file" "$there"
  elif ! cmp -s "$file" "$there"; then
    warn "left as it is: $there, which is of another commit, or was built with another DEBFULLNAME or DEBEMAIL"
  fi
done
rm -rf "$work"
