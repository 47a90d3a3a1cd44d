# The scripts of versions that are out, and those that lead from them to the present one; sourced, never run. Needs common.sh and faults.sh.
# Gives: recorded_versions, add_released, check_released, check_versions.

SUMS=sql/released/SHA256SUMS

# recorded_versions TREE: those whose install script is kept, one a line.
recorded_versions() { sed -nE 's/^[0-9a-f]{64}  autoembed--([^-]+)\.sql$/\1/p' "$1/$SUMS"; }

# The statements of an install script: pgrx says in comments from which lines of Rust they came, in any order.
statements() { grep -vE '^(--|/\*|\*/|$)' "$1"; }

# add_released DIR: the install scripts of earlier versions beside the present one's, so that CREATE EXTENSION can be asked for them.
# (cargo pgrx puts the update scripts there itself.) Where the present version is recorded, what was built must be what is kept.
add_released() {
  local dir=$1 script name
  for script in "$ROOT"/sql/released/autoembed--*.sql; do
    name=$(basename "$script")
    if [ -e "$dir/$name" ] && ! cmp -s <(statements "$script") <(statements "$dir/$name"); then
      die "the SQL is not that of $name any more, which is recorded" \
        "give Cargo.toml the next version; or, before it has its tag: scripts/freeze.sh --again"
    fi
    cp "$script" "$dir/"
  done
}

# check_released TREE: whether what is out is as it was, and can be updated.
check_released() {
  local tree=$1 present script name from to version
  FAULTS=0
  present=$(cargo_version "$tree/Cargo.toml")
  (cd "$tree/sql/released" && sha256sum --check --strict --quiet SHA256SUMS) || fault "a script that is out is not what it was"

  for script in "$tree"/sql/released/*.sql; do
    name=$(basename "$script")
    grep -q "  $name\$" "$tree/$SUMS" || fault "$name is kept without a checksum"
  done
  for script in "$tree"/sql/autoembed--*--*.sql; do
    name=$(basename "$script" .sql)
    to=${name##*--}
    from=${name#autoembed--}
    from=${from%--*}
    recorded_versions "$tree" | grep -qxF "$from" || fault "$name.sql begins at a version of which no install script is kept"
    if recorded_versions "$tree" | grep -qxF "$to"; then
      grep -q "  \.\./$name\.sql\$" "$tree/$SUMS" || fault "$name.sql leads to a version that is out, without a checksum"
    elif [ "$to" != "$present" ]; then
      fault "$name.sql leads to a version that is neither out nor the present one"
    fi
    [ "$(sed -n '/^--/d; /^$/d; p; q' "$script")" = "\\echo Use \"ALTER EXTENSION autoembed UPDATE TO '$to'\" to load this file. \\quit" ] ||
      fault "$name.sql does not begin with the guard that has psql leave it alone"
  done
  while IFS= read -r version; do
    if [ "$version" = "$present" ]; then continue; fi
    compgen -G "$tree/sql/autoembed--$version--*.sql" >/dev/null || fault "no script leads from $version to a later version"
  done < <(recorded_versions "$tree")
  check_tags "$tree"
  [ "$FAULTS" = 0 ]
}

# What was recorded when a version got its tag is recorded still: or a script and its checksum could be changed together.
check_tags() {
  local tree=$1 tag line tags
  [ -e "$tree/.git" ] || return 0
  tags=$(git -c safe.directory="$tree" -C "$tree" tag --list 'v[0-9]*') || fault "git does not tell the tags"
  while IFS= read -r tag; do
    recorded_versions "$tree" | grep -qxF "${tag#v}" || fault "the version of tag $tag is not kept: scripts/freeze.sh ${tag#v} $tag"
    while IFS= read -r line; do
      grep -qxF "$line" "$tree/$SUMS" || fault "tag $tag has another checksum: $line"
    done < <(git -c safe.directory="$tree" -C "$tree" show "$tag:$SUMS" 2>/dev/null)
  done < <(grep . <<<"$tags")
}

# check_versions TREE: whether every file that names the version names the same one.
check_versions() {
  local tree=$1 present file seen
  FAULTS=0
  present=$(cargo_version "$tree/Cargo.toml")
  for file in "$tree"/src/*/Cargo.toml "$tree"/tests/Cargo.toml "$tree"/tests/*/Cargo.toml; do
    seen=$(cargo_version "$file")
    [ "$seen" = "$present" ] || fault "${file#"$tree"/} has version $seen, and the extension $present"
  done
  while IFS= read -r seen; do
    [ "$seen" = "$present" ] || fault "META.json has version $seen, and the extension $present"
  done < <(sed -nE '/"meta-spec"/,/\}/d; s/^ *"version": "(.*)",?$/\1/p' "$tree/META.json")
  grep -qE "^## \[(Unreleased\] $present|$present\] - )" "$tree/CHANGELOG.md" || fault "CHANGELOG.md has no heading for $present"
  [ "$FAULTS" = 0 ]
}
