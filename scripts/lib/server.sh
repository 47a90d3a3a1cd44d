# A private copy of the server for tests and the demo; sourced, never run. Needs common.sh.
# Gives: private_server, remove_private_servers.
#
# PostgreSQL finds its directories from where its own program lies, so a copy of the programs with
# links to everything else is a whole server of its own: extensions are installed into it without
# root, and a test build never replaces the one that a running server has loaded.

# Where the copies of this tree lie: readable by the user that runs the server, which the tree of
# root is not, and short, for socket paths have 107 bytes.
private_base() {
  printf '%s/autoembed-%s-%s' "${TMPDIR:-/tmp}" "$(id -u)" "$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)"
}

# Makes the copy of PG_CONFIG's server, or finds it, and sets PRIVATE_PG_CONFIG and PRIVATE_BASE.
private_server() {
  PRIVATE_BASE=$(private_base)
  mkdir -p "$PRIVATE_BASE"
  # The temporary folder is everybody's: somebody else's directory of this name is not ours to trust.
  [ -O "$PRIVATE_BASE" ] && [ ! -L "$PRIVATE_BASE" ] || die "$PRIVATE_BASE belongs to somebody else" "remove it, or set TMPDIR"

  local prefix=$PRIVATE_BASE/pg$PG stamp
  case $PG_CONFIG in "$PRIVATE_BASE"/*) die "PG_CONFIG names a private copy of the server" "unset PG_CONFIG, or name an installed server's" ;; esac
  stamp="$PG_CONFIG $("$PG_CONFIG" --version) $(cksum <"$("$PG_CONFIG" --bindir)/postgres")"
  PRIVATE_PG_CONFIG=$prefix$("$PG_CONFIG" --bindir)/pg_config
  if [ "$(cat "$prefix/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$prefix"
    copy_server "$prefix"
    printf '%s' "$stamp" >"$prefix/stamp"
  fi
  link_extension vector
}

# A server of our own (built.sh, wheel.sh) lies in somebody's home, which the server's user may not enter: nothing is linked there.
is_own_server() { case $PG_CONFIG in "$CACHE"/pg[0-9]*/* | "$CACHE"/wheel-pg[0-9]*/*) return 0 ;; *) return 1 ;; esac }

copy_server() {
  local prefix=$1 share lib option
  share=$("$PG_CONFIG" --sharedir)
  lib=$("$PG_CONFIG" --pkglibdir)
  if is_own_server; then
    local inside=${PG_CONFIG#"$CACHE"/}
    mkdir -p "$prefix$CACHE"
    cp -a "$CACHE/${inside%%/*}" "$prefix$CACHE/"
  else
    link_server "$prefix" "$share" "$lib"
  fi
  # Never the server's own build of the extension under test.
  rm -rf "$prefix$share/extension/autoembed"* "$prefix$share/autoembed" "$prefix$lib/autoembed"*
  for option in --bindir --sharedir --pkglibdir --includedir-server; do
    [ "$("$PRIVATE_PG_CONFIG" "$option")" = "$prefix$("$PG_CONFIG" "$option")" ] ||
      die "the server of $PG_CONFIG cannot be copied: $option stays $("$PRIVATE_PG_CONFIG" "$option")" \
        "use a server whose directories share one prefix"
  done
}

link_server() {
  local prefix=$1 share=$2 lib=$3 bin include
  bin=$("$PG_CONFIG" --bindir)
  include=$("$PG_CONFIG" --includedir-server)
  mkdir -p "$prefix$bin" "$prefix$share/extension" "$prefix$lib" "$prefix$(dirname "$include")"
  cp -L "$bin"/* "$prefix$bin/"
  link_all "$share" "$prefix$share"
  link_all "$share/extension" "$prefix$share/extension"
  link_all "$lib" "$prefix$lib"
  ln -sfn "$include" "$prefix$include"
}

# Links every entry of FROM that TO does not have.
link_all() {
  local from=$1 to=$2 entry
  for entry in "$from"/*; do
    if [ ! -e "$to/$(basename "$entry")" ]; then ln -s "$entry" "$to/"; fi
  done
}

# An extension that was installed into the server after the copy was made.
link_extension() {
  local name=$1 prefix=$PRIVATE_BASE/pg$PG dir entry
  for dir in "$("$PG_CONFIG" --sharedir)/extension" "$("$PG_CONFIG" --pkglibdir)"; do
    for entry in "$dir/$name"[-.]*; do
      if [ ! -e "$entry" ]; then continue; fi
      if is_own_server; then cp -u "$entry" "$prefix$entry"; else ln -sfn "$entry" "$prefix$entry"; fi
    done
  done
}

remove_private_servers() {
  local base
  base=$(private_base)
  if [ -d "$base" ] && [ -O "$base" ]; then rm -rf "$base"; fi
}
