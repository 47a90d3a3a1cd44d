# Whether packages are as they should be; sourced, never run. Needs common.sh, faults.sh, package.sh, tree.sh, deb.sh.
# Gives: check_tarball, check_deb, no_faults.

# The files that PostgreSQL reads, by what the sources say: nothing less, nothing more.
expected_share() {
  local version script
  version=$(package_version)
  printf '%s\n' extension/autoembed.control "extension/autoembed--$version.sql"
  for script in "$ROOT"/sql/autoembed--*.sql "$ROOT"/sql/released/autoembed--*.sql; do
    if [ -e "$script" ]; then printf 'extension/%s\n' "$(basename "$script")"; fi
  done
  (cd "$ROOT/share/builtin" && find . -type f -printf 'autoembed/builtin/%P\n')
}

# compare WHAT EXPECTED FOUND: two lists, in any order.
compare() {
  local difference
  difference=$(diff <(sort -u <<<"$2") <(sort -u <<<"$3")) || fault "$1: (< missing, > not expected)
$difference"
}

# The library bears no path of this machine, no symbols that only debuggers read, and needs no library but the C compiler's.
check_library() {
  local file=$1 place places needed
  places=("$ROOT/" "$TARGET/" "${CARGO_HOME:-$HOME/.cargo}/" "$(rustc --print sysroot)/" "$HOME/")
  place=$("$PG_CONFIG" --includedir-server)
  case $place in /usr/include/*) ;; *) places+=("$place/") ;; esac
  for place in "${places[@]}"; do
    if LC_ALL=C grep -aqF "$place" "$file"; then fault "$(basename "$file") bears the path $place"; fi
  done
  needed=$(LC_ALL=C readelf -dW "$file" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | grep -vE '^(libc|libm|libgcc_s|libdl|libpthread|librt|ld-linux[a-z0-9-]*)\.so\.[0-9]+$') || true
  if [ -n "$needed" ]; then fault "$(basename "$file") needs $needed, which no package was thought to bring"; fi
  if LC_ALL=C readelf -SW "$file" | grep -q '\.debug_'; then fault "$(basename "$file") has line tables"; fi
}

# check_members NAME: of `tar -tv` lines on the standard input: root's, of one time, for everybody to read, and nothing but files and folders.
check_members() {
  local want mode owner rest day time path
  want=$(date -u -d "@$(commit_time)" '+%Y-%m-%d %H:%M:%S')
  while read -r mode owner rest day time path; do
    case $owner in root/root | 0/0) ;; *) fault "$1: $path belongs to $owner" ;; esac
    case $mode in
      -rw-r--r-- | drwxr-xr-x) ;;
      -rwxr-xr-x) case $path in */install.sh) ;; *) fault "$1: $path is executable" ;; esac ;;
      *) fault "$1: $path has the mode $mode" ;;
    esac
    [ "$day $time" = "$want" ] || fault "$1: $path bears the time $day $time, not $want"
  done
}

# check_tarball FILE
check_tarball() {
  local file=$1 name work
  name=$(package_name)
  work=$(mktemp -d)
  check_members "$(basename "$file")" < <(TZ=UTC tar --numeric-owner --full-time -tvzf "$file")
  tar -C "$work" -xzf "$file"
  compare "the folder of the tarball" "$name" "$(ls -A "$work")"
  compare "the files in share" "$(expected_share)" "$(cd "$work/$name/share" && find . -type f -printf '%P\n')"
  compare "the files in lib" autoembed.so "$(ls -A "$work/$name/lib")"
  check_library "$work/$name/lib/autoembed.so"
  grep -q "^default_version = '$(package_version)'" "$work/$name/share/extension/autoembed.control" ||
    fault "autoembed.control does not name version $(package_version)"
  rm -rf "$work"
}

# check_deb FILE TARBALL
check_deb() {
  local file=$1 tarball=$2 package work root field doc
  package=$(deb_package)
  work=$(mktemp -d)
  doc=usr/share/doc/$package
  check_members "$(basename "$file")" < <(dpkg-deb --fsys-tarfile "$file" | TZ=UTC tar --numeric-owner --full-time -tvf -)
  compare "the name of the file" "$(dpkg-deb -f "$file" Package)_$(dpkg-deb -f "$file" Version)_$(dpkg-deb -f "$file" Architecture).deb" "$(basename "$file")"
  field=$(dpkg-deb -f "$file" Depends)
  [[ "$field" == "postgresql-$PG, "* ]] || fault "Depends does not begin with the server: $field"
  [[ "$field" =~ libc6\ \(\>=\ 2\.[0-9]+\) ]] || fault "Depends names no version of libc6: $field"
  [[ "$field $(dpkg-deb -f "$file" Recommends)" == *"postgresql-$PG-pgvector"* ]] || fault "pgvector is neither required nor recommended"
  compare "the control files" "control
md5sums
postinst
prerm" "$(dpkg-deb --ctrl-tarfile "$file" | tar -tf - | sed 's,^\./,,' | grep -v '^$')"

  root=$work/root
  dpkg-deb -R "$file" "$root"
  (cd "$root" && md5sum --quiet -c DEBIAN/md5sums) || fault "md5sums are not the files'"
  compare "the files that md5sums names" "$(cd "$root" && find usr -type f)" "$(sed 's/^[0-9a-f]*  //' "$root/DEBIAN/md5sums")"
  compare "the files outside of the documentation" "$(
    printf 'usr/lib/postgresql/%s/lib/autoembed.so\n' "$PG"
    expected_share | sed "s,^,usr/share/postgresql/$PG/,"
    printf 'usr/share/lintian/overrides/%s\n' "$package"
  )" "$(cd "$root" && find usr -type f -not -path "$doc/*")"
  for field in copyright changelog.gz changelog.Debian.gz THIRD-PARTY-NOTICES.gz README.md docs/packages.md docs/licences.md; do
    [ -s "$root/$doc/$field" ] || fault "the documentation has no $field"
  done
  tar -C "$work" -xzf "$tarball"
  cmp "$root/usr/lib/postgresql/$PG/lib/autoembed.so" "$work/$(package_name)/lib/autoembed.so" || fault "the .deb and the tarball have different libraries"
  rm -rf "$work"
}

# no_faults: the end of the checks.
no_faults() { [ "$FAULTS" = 0 ] || die "the packages are not as they should be" "each fault is named above"; }
