#!/usr/bin/env bash
# Cuts a version: keeps the install script that a commit makes, and the checksums of it and of the update scripts that lead to it.
# From then on none of them may change.
#
#   scripts/freeze.sh VERSION [REVISION] [--again]
#
# REVISION (HEAD unless given) must have that version in its Cargo.toml. A version that is recorded is made anew only with --again,
# and never once it has its tag, v and the version.
set -euo pipefail
case ${1-} in
  "" | -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage

again="" words=()
for argument in "$@"; do
  case $argument in
    --again) again=1 ;;
    -*) die "unknown option: $argument" "try --help" ;;
    *) words+=("$argument") ;;
  esac
done
version=${words[0]-} revision=${words[1]:-HEAD}
case $version in
  *[!0-9.]* | "") die "this is no version: $version" "write it as 0.1.0" ;;
esac
commit=$(git rev-parse --verify --quiet "$revision^{commit}") || die "there is no revision $revision"

kept=autoembed--$version.sql
if grep -q "  $kept\$" "$SUMS" 2>/dev/null; then
  if git rev-parse --verify --quiet "refs/tags/v$version" >/dev/null; then
    die "version $version is out: what is kept of it stays as it is" "a change of SQL is a new version, with an update script"
  fi
  [ -n "$again" ] || die "version $version is recorded already" "as long as nobody has it: scripts/freeze.sh $version $revision --again"
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive "$commit" | tar -x -C "$tree"
[ "$(cargo_version "$tree/Cargo.toml")" = "$version" ] ||
  die "revision $revision is not version $version but $(cargo_version "$tree/Cargo.toml")" "name the commit that was, or is to be, tagged v$version"
# What is recorded are the files of this tree: an update script must be here as the commit has it.
for script in "$tree"/sql/autoembed--*--"$version".sql; do
  if [ -e "$script" ]; then
    cmp -s "$script" "sql/$(basename "$script")" || die "$(basename "$script") is another one here than in $revision"
  fi
done

export CARGO_TARGET_DIR=$TARGET
# To cargo a copy of the tree is the tree, and files that are older than a build are in it: no build of the one may be left for the other.
forget_builds() { (cd "$tree" && cargo clean --quiet -p autoembed -p autoembed-core -p autoembed-http -p autoembed-local); }
make_script() {
  forget_builds
  cd "$tree" && "$CARGO_PGRX" pgrx schema --package autoembed --pg-config "$PG_CONFIG" --no-default-features --features "pg$PG" --out "$tree/$kept"
}
trap 'forget_builds; rm -rf "$tree"' EXIT
stage "the script of $version" make_script
mkdir -p sql/released
install -m 644 "$tree/$kept" "sql/released/$kept"
{
  if [ -e "$SUMS" ]; then grep -vE "  (\.\./)?autoembed--(.*--)?${version//./\\.}\.sql\$" "$SUMS" || true; fi
  cd sql/released
  sha256sum "$kept"
  for script in ../autoembed--*--"$version".sql; do
    if [ -e "$script" ]; then sha256sum "$script"; fi
  done
} | sort -k 2 >"$tree/sums"
install -m 644 "$tree/sums" "$SUMS"
say "kept: sql/released/$kept, as $(git rev-parse --short "$commit") makes it"
cat <<NEXT
    Commit it, and tag the release: git tag v$version
    The next version: its number in Cargo.toml (and wherever make lint finds the old one), and sql/autoembed--$version--NEXT.sql
NEXT
