# Building the extension and putting its files in place; sourced, never run. Needs common.sh and released.sh.
# Gives: build_package, install_package, package_version, commit_time.

package_version() { cargo_version "$ROOT/Cargo.toml"; }

# The time that everything in a package bears, in seconds since 1970: the commit's, so that any day's build gives the same bytes.
# Where there is no repository, the unpacked sources bear it themselves.
commit_time() {
  if [ -n "${SOURCE_DATE_EPOCH-}" ]; then
    printf '%s' "$SOURCE_DATE_EPOCH"
  elif [ -e "$ROOT/.git" ] && have git; then
    git -c safe.directory="$ROOT" -C "$ROOT" log -1 --format=%ct
  else
    stat -c %Y "$ROOT/Cargo.toml"
  fi
}

# Panic messages and line tables hold the paths of sources. Names take their place that are the same wherever the tree and cargo's
# own folders lie. Nothing of the server is among them, so that crates which do not see it are compiled once for all versions.
# Prints "FROM=TO" a line; a folder whose name has a space cannot be told to cargo, and stays.
path_names() {
  local cargo_home=${CARGO_HOME:-$HOME/.cargo} registry
  {
    path_name "$ROOT" /autoembed
    path_name "${CARGO_TARGET_DIR:-$ROOT/target}" /target
    path_name "$cargo_home" /cargo
    # The folder of a registry bears a hash of the registry's address, which a mirror has another of.
    for registry in "$cargo_home"/registry/src/*/; do
      if [ -d "$registry" ]; then path_name "${registry%/}" /crates; fi
    done
    path_name "$(rustc --print sysroot)" /rust
  } | grep -v ' '
}

# Compilers name sources by the path that they are given, and their own folder by where it really is.
path_name() {
  local real
  real=$(cd "$1" 2>/dev/null && pwd -P) || real=$1
  printf '%s=%s\n' "$real" "$2"
  if [ "$real" != "$1" ]; then printf '%s=%s\n' "$1" "$2"; fi
}

# Runs a command with cargo and the C compiler told of those names. Not through RUSTFLAGS, which would put the flags of
# .cargo/config.toml and of cargo-pgrx out of force.
with_path_names() {
  local triple rust=() c=() name headers
  triple=$(rustc -vV | sed -n 's/^host: //p')
  # Of a server elsewhere, the paths of headers become those of Debian. Only the C compiler is told: crates without C need not be compiled again.
  headers=$("$PG_CONFIG" --includedir-server)
  case $headers in /usr/include/* | *' '*) ;; *) c+=("-ffile-prefix-map=$headers=/usr/include/postgresql/$PG/server") ;; esac
  while IFS= read -r name; do
    rust+=("--remap-path-prefix=$name")
    c+=("-ffile-prefix-map=$name")
  done < <(path_names)
  env "CARGO_TARGET_$(printf '%s' "$triple" | tr 'a-z-' 'A-Z_')_RUSTFLAGS=${rust[*]}" "CFLAGS=${CFLAGS-} ${c[*]}" \
    SOURCE_DATE_EPOCH="$(commit_time)" "$@"
}

# Builds the release into DIR, laid out as under / of the machine that it is for.
build_package() {
  local out=$1
  rm -rf "$out"
  say "building autoembed for PostgreSQL $PG"
  (cd "$ROOT" && with_path_names "$CARGO_PGRX" pgrx package --package autoembed --pg-config "$PG_CONFIG" --out-dir "$out" \
    --no-default-features --features "pg$PG") || die "the extension did not build" "the compiler's messages are above"
  local builtin
  builtin=$out$("$PG_CONFIG" --sharedir)/autoembed/builtin
  mkdir -p "$builtin"
  cp "$ROOT"/share/builtin/* "$builtin/"
  add_released "$out$("$PG_CONFIG" --sharedir)/extension"
  find "$out" -type d -exec chmod 755 {} +
  find "$out" -type f -exec chmod 644 {} +
}

# install_package DIR [PREFIX]: every file of DIR to its place below PREFIX (/ unless given). Each
# is written beside its place and renamed, so that a server which has the old one mapped keeps it whole.
install_package() {
  local from=$1 prefix=${2-} target
  target=$prefix$("$PG_CONFIG" --pkglibdir)
  # One call, so that sudo asks once.
  for_dir "$target" sh -c '
    set -eu
    cd "$1"
    find . -type f | while IFS= read -r file; do
      place=$2/${file#./}
      mkdir -p "$(dirname "$place")"
      cp "$file" "$place.new.$$"
      chmod 644 "$place.new.$$"
      mv -f "$place.new.$$" "$place"
    done' install "$from" "$prefix" || die "the extension could not be installed into ${prefix:-/}" \
    "see the message above; the server's directories are root's unless it is your own"
}
