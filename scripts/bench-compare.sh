#!/usr/bin/env bash
# bench-compare.sh REVISION: instructions of the hot paths at that revision and in the tree as it is. Ends with 1 where one has
# grown by more than 2 %.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt tools paths

revision=${1-}
[ -n "$revision" ] || die "which revision is the tree compared with?" "as in: make bench-compare REV=HEAD~1"
commit=$(git -C "$ROOT" rev-parse --verify --quiet "$revision^{commit}") ||
  die "there is no revision $revision" "git log --oneline shows some"
ensure_rust
ensure_valgrind

# An archive and not a work tree of git: nothing stays behind in the repository, however this ends. Its target directory is
# its own: cargo takes two trees at one revision for one, and would give the one's build for the other's.
tree=$WORK/tree
mkdir -p "$tree"
git -C "$ROOT" archive "$commit" | tar -x -C "$tree"

# The paths as they are now, with the crates of then: the same work on both sides.
rm -rf "$tree/tests/paths"
cp -R "$ROOT/tests/paths" "$tree/tests/paths"
grep -q '^members = .*"tests/paths"' "$tree/Cargo.toml" ||
  sed -i.bak 's|^members = \[|&"tests/paths", |' "$tree/Cargo.toml"
build_then() { run build_paths "$tree" "$WORK/target" "$@" 2>"$WORK/build.log"; }
if ! build_then; then
  # Some of them want code that was not there yet: the others are compared.
  fitting=
  for group in $(sed -nE 's/^default = \[(.*)\]/\1/p' "$tree/tests/paths/Cargo.toml" | tr -d '",'); do
    if build_then --no-default-features --features "$group"; then
      fitting="$fitting $group"
    else
      say "left out: the paths of $group do not fit the code at $revision"
    fi
  done
  [ -n "$fitting" ] || die "no path fits the code at $revision: $(grep -m1 '^error' "$WORK/build.log")" \
    "compare with a later revision"
  build_then --no-default-features --features "$fitting"
fi
run build_paths "$ROOT" "$TARGET"
run "$TARGET/counted/paths" compare "$WORK" "$WORK/target/counted/paths" "$(git -C "$ROOT" rev-parse --short "$commit")"
