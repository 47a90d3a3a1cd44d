#!/usr/bin/env bash
# Whether the scripts of versions that are out are what they were, and whether the version is the same wherever it is named. Then on
# trees in which that is not so, which it must find.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt faults released

# A tree of versions 0.1.0 and 0.1.1, which are out, and 0.2.0, which is the present one.
good_tree() {
  local tree=$1 file
  rm -rf "$tree"
  mkdir -p "$tree/sql/released" "$tree/src/core" "$tree/tests/stub"
  for file in Cargo.toml src/core/Cargo.toml tests/Cargo.toml tests/stub/Cargo.toml; do echo 'version = "0.2.0"' >"$tree/$file"; done
  printf '  "version": "0.2.0",\n  "meta-spec": {\n    "version": "1.0.0"\n  }\n' >"$tree/META.json"
  echo '## [Unreleased] 0.2.0' >"$tree/CHANGELOG.md"
  update_script "$tree" 0.1.0 0.1.1
  update_script "$tree" 0.1.1 0.2.0
  for file in 0.1.0 0.1.1; do echo "SELECT '$file';" >"$tree/sql/released/autoembed--$file.sql"; done
  (cd "$tree/sql/released" && sha256sum autoembed--*.sql ../autoembed--0.1.0--0.1.1.sql >SHA256SUMS)
}

update_script() {
  printf '%s\n' '-- What is new.' "\\echo Use \"ALTER EXTENSION autoembed UPDATE TO '$3'\" to load this file. \\quit" >"$1/sql/autoembed--$2--$3.sql"
}

# What must be found, each a command in such a tree.
MISTAKES=(
  "echo >>sql/released/autoembed--0.1.0.sql"
  "rm sql/released/autoembed--0.1.1.sql"
  "echo >>sql/autoembed--0.1.0--0.1.1.sql"
  "rm sql/autoembed--0.1.0--0.1.1.sql"
  "cp sql/released/autoembed--0.1.0.sql sql/released/autoembed--0.1.2.sql"
  "sed -i '/--0.1.0--/d' sql/released/SHA256SUMS"
  "rm sql/autoembed--0.1.1--0.2.0.sql"
  "sed -i /echo/d sql/autoembed--0.1.1--0.2.0.sql"
  "sed -i 's/0.2.0/0.1.1/' sql/autoembed--0.1.1--0.2.0.sql"
  "update_script . 0.1.1 0.3.0"
  "update_script . 0.0.9 0.2.0"
  "sed -i s/0.2.0/0.3.0/ Cargo.toml"
  "sed -i s/0.2.0/0.3.0/ tests/stub/Cargo.toml"
  "sed -i s/0.2.0/0.1.1/ META.json"
  "sed -i s/0.2.0/0.1.1/ CHANGELOG.md"
)

# And in a repository in which 0.1.0 has its tag: a script that is changed together with its checksum, and one that is kept no more.
TAGGED_MISTAKES=(
  "echo >>sql/released/autoembed--0.1.0.sql; (cd sql/released && sha256sum autoembed--*.sql ../autoembed--0.1.0--0.1.1.sql >SHA256SUMS)"
  "rm sql/released/autoembed--0.1.0.sql sql/autoembed--0.1.0--*.sql; sed -i '/--0.1.0/d' sql/released/SHA256SUMS"
)

check() { check_released "$1" && check_versions "$1"; }

try() {
  local tree=$1 mistake=$2
  (cd "$tree" && eval "$mistake")
  if (check "$tree") >"$TEMPORARY/found" 2>&1; then die "nothing is found where somebody did this: $mistake"; fi
  grep -q '^fault: ' "$TEMPORARY/found" || die "the check itself fails on this: $mistake" "$(tail -n 3 "$TEMPORARY/found")"
}

# own_git TREE ...: with no settings of the user's (signatures, hooks).
own_git() {
  local tree=$1
  shift
  GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null git -C "$tree" "$@"
}

# A check that finds nothing anywhere proves nothing.
check_the_check() {
  local tree=$TEMPORARY/tree mistake
  good_tree "$tree"
  check "$tree" || die "a fault is found where there is none"
  for mistake in "${MISTAKES[@]}"; do
    good_tree "$tree"
    try "$tree" "$mistake"
  done
  for mistake in "" "${TAGGED_MISTAKES[@]}"; do
    good_tree "$tree"
    own_git "$tree" init --quiet
    own_git "$tree" add .
    own_git "$tree" -c user.name=check -c user.email=check@localhost commit --quiet --message=check
    own_git "$tree" tag v0.1.0
    if [ -n "$mistake" ]; then try "$tree" "$mistake"; else check "$tree" || die "a fault is found where there is none"; fi
  done
  say "$((${#MISTAKES[@]} + ${#TAGGED_MISTAKES[@]})) mistakes were found"
}

have git || apt_install "git, for the check of tags" git
# In a hook of git's these name the user's own repository, and are stronger than a folder that is given.
while IFS= read -r variable; do unset "$variable"; done < <(git rev-parse --local-env-vars)
TEMPORARY=$(mktemp -d)
trap 'rm -rf "$TEMPORARY"' EXIT
check "$ROOT" || die "the scripts of versions that are out, or the version's number, are not in order" "see the faults above; CONTRIBUTING.md says how a version is cut"
say "kept as they were: $(recorded_versions "$ROOT" | tr '\n' ' ')"
check_the_check
