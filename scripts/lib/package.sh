# Building the extension and putting its files in place; sourced, never run. Needs common.sh and released.sh.
# Gives: build_package, install_package.

# Builds the release into DIR, laid out as under / of the machine that it is for.
build_package() {
  local out=$1
  rm -rf "$out"
  say "building autoembed for PostgreSQL $PG"
  (cd "$ROOT" && "$CARGO_PGRX" pgrx package --package autoembed --pg-config "$PG_CONFIG" --out-dir "$out" \
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
