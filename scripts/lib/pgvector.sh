# pgvector in the server of PG_CONFIG; sourced, never run. Needs common.sh and apt.sh.
# Gives: ensure_pgvector.

pgvector_there() { [ -f "$("$PG_CONFIG" --sharedir)/extension/vector.control" ]; }

# The suite whose pgvector source is built when there is no package: Debian 12 has none, so the
# next release's is taken; later releases have their own.
pgvector_suite() {
  local id codename version
  id=$(. /etc/os-release && printf '%s' "${ID-}")
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME-}")
  version=$(. /etc/os-release && printf '%s' "${VERSION_ID-}")
  if [ "$id" = debian ] && [ -n "$codename" ] && [ "${version:-99}" -gt 12 ]; then
    printf '%s' "$codename"
  else
    printf 'trixie'
  fi
}

pgvector_by_hand() {
  die "$1" "install pgvector 0.8 or later for $PG_CONFIG yourself: https://github.com/pgvector/pgvector#installation"
}

ensure_pgvector() {
  if pgvector_there; then return; fi
  if ! apt_usable; then pgvector_by_hand "pgvector is missing"; fi
  # The distribution's package serves only the distribution's server.
  if [ "$("$PG_CONFIG" --bindir)" = "/usr/lib/postgresql/$PG/bin" ] && apt_candidate "postgresql-$PG-pgvector"; then
    apt_install "pgvector" "postgresql-$PG-pgvector"
  else
    build_pgvector
  fi
  pgvector_there || pgvector_by_hand "pgvector was installed, but $PG_CONFIG does not see it"
}

build_pgvector() {
  local sources=$CACHE/pgvector build archive suite
  suite=$(pgvector_suite)
  build=$sources/build-pg$PG
  if ! archive=$(pgvector_archive); then
    say "fetching the source package of pgvector (Debian $suite)"
    apt_source "$suite" pgvector "$sources" ||
      pgvector_by_hand "the source package of pgvector could not be fetched from Debian $suite"
    archive=$(pgvector_archive) || pgvector_by_hand "the source package of pgvector holds no sources"
  fi
  say "building $(basename "$archive") for PostgreSQL $PG"
  rm -rf "$build"
  mkdir -p "$build"
  tar -xf "$archive" -C "$build" --strip-components=1
  if [ "$PG" -ge 18 ]; then pgvector_for_18 "$build"; fi
  # OPTFLAGS: no -march=native, the library may be packaged for another machine.
  # with_llvm: bitcode is for inlining by the JIT only, and wants the server's own clang.
  local log=$sources/build-pg$PG.log flags=(OPTFLAGS= with_llvm=no "PG_CONFIG=$PG_CONFIG")
  if ! make -s -j2 -C "$build" "${flags[@]}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    pgvector_by_hand "pgvector did not build (all of it: $log)"
  fi
  say "installing pgvector into $("$PG_CONFIG" --sharedir)/extension"
  for_dir "$("$PG_CONFIG" --pkglibdir)" make -s -C "$build" "${flags[@]}" install >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    pgvector_by_hand "pgvector could not be installed"
  }
  rm -rf "$build"
}

pgvector_archive() {
  local found
  found=$(find "$CACHE/pgvector" -maxdepth 1 -name 'pgvector_*.orig.tar.*' 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] && printf '%s' "$found"
}

# 0.8.0 is older than two changes of PostgreSQL 18's interface; later versions do not match these.
pgvector_for_18() {
  sed -i 's/vacuum_delay_point()/vacuum_delay_point(false)/' "$1"/src/*.c
  sed -i -E 's/([A-Za-z_>-]*tupdesc)->attrs\[([0-9]+)\]\./TupleDescAttr(\1, \2)->/' "$1"/src/*.c
}
