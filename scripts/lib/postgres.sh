# Which PostgreSQL to build for; sourced, never run. Needs common.sh, apt.sh and built.sh.
# Gives: ensure_postgres, which sets PG_CONFIG (a path) and PG (its major).

pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# A pg_config belongs to a server that an extension can be built for and tested on.
pg_complete() {
  [ -x "$1" ] && [ -f "$("$1" --includedir-server)/postgres.h" ] &&
    [ -x "$("$1" --bindir)/postgres" ] && [ -x "$("$1" --bindir)/initdb" ]
}

# The places where servers live, newest major first: "MAJOR PATH" a line.
pg_candidates() {
  local path
  for path in /usr/lib/postgresql/*/bin/pg_config /usr/pgsql-*/bin/pg_config \
    /opt/homebrew/opt/postgresql@*/bin/pg_config /usr/local/opt/postgresql@*/bin/pg_config; do
    if [ -x "$path" ]; then printf '%s %s\n' "$(pg_major "$path")" "$path"; fi
  done | sort -rn
  if have pg_config; then
    path=$(command -v pg_config)
    printf '%s %s\n' "$(pg_major "$path")" "$path"
  fi
  # One of our own stands in where a major is asked for that the system has not.
  if [ -n "${PG-}" ]; then
    path=$(built_pg_config "$PG")
    if [ -x "$path" ]; then printf '%s %s\n' "$PG" "$path"; fi
  fi
}

# Sets PG_CONFIG to the first candidate that is complete and has the wanted major, if any is.
pg_find() {
  local major path
  while read -r major path; do
    if [ -n "${PG-}" ] && [ "$major" != "$PG" ]; then continue; fi
    if [ "$major" -lt "$MIN_PG" ] || [ "$major" -gt "$MAX_PG" ]; then continue; fi
    if pg_complete "$path"; then
      PG_CONFIG=$path
      return 0
    fi
  done < <(pg_candidates)
  return 1
}

# The major to install: the one asked for, else of a server that lacks only its headers, else
# the one that the distribution's metapackage stands for.
pg_wanted() {
  local path newest=
  if [ -n "${PG-}" ]; then
    printf '%s' "$PG"
    return
  fi
  for path in /usr/lib/postgresql/*/bin/postgres; do
    if [ -x "$path" ]; then newest=$(printf '%s\n' "$newest" "$(echo "$path" | cut -d/ -f5)" | sort -n | tail -n 1); fi
  done
  if [ "${newest:-0}" -ge "$MIN_PG" ] && [ "${newest:-0}" -le "$MAX_PG" ]; then
    printf '%s' "$newest"
    return
  fi
  apt_candidate postgresql >&2 || true
  LC_ALL=C apt-cache depends postgresql 2>/dev/null | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1
}

pg_check_major() {
  case $1 in
    '' | *[!0-9]*) die "PostgreSQL '$1' is not a major version" "use a whole number from $MIN_PG to $MAX_PG, as in PG=17" ;;
  esac
  if [ "$1" -lt "$MIN_PG" ] || [ "$1" -gt "$MAX_PG" ]; then
    die "PostgreSQL $1 is not supported" "use one of $MIN_PG to $MAX_PG: make ... PG=17"
  fi
}

ensure_postgres() {
  if [ -n "${PG-}" ]; then pg_check_major "$PG"; fi
  if [ -n "${PG_CONFIG-}" ]; then
    [ -x "$PG_CONFIG" ] || die "PG_CONFIG is not a program: $PG_CONFIG" "give the path of the server's own pg_config"
    local major
    major=$(pg_major "$PG_CONFIG")
    pg_check_major "$major"
    if [ "${PG:-$major}" != "$major" ]; then
      die "PG is $PG, but PG_CONFIG belongs to PostgreSQL $major" "give only one of the two"
    fi
    PG=$major
    if ! pg_complete "$PG_CONFIG"; then
      # Only the distribution's own layout says which packages are missing.
      [ "$("$PG_CONFIG" --bindir)" = "/usr/lib/postgresql/$PG/bin" ] ||
        die "the server or its headers are missing beside $PG_CONFIG" "install the server's development files"
      apt_install "PostgreSQL $PG and its headers" "postgresql-$PG" "postgresql-server-dev-$PG"
    fi
    return
  fi
  if ! pg_find; then
    if ! apt_usable; then
      die "no PostgreSQL ${PG:-$MIN_PG to $MAX_PG} with server headers was found" \
        "install the server and its development files (Debian and Ubuntu: postgresql-N and postgresql-server-dev-N), or set PG_CONFIG"
    fi
    local wanted
    wanted=$(pg_wanted)
    [ -n "$wanted" ] || die "no PostgreSQL was found, and apt has none to install" "install it, or set PG_CONFIG"
    pg_check_major "$wanted"
    PG=$wanted
    if apt_candidate "postgresql-server-dev-$wanted"; then
      apt_install "PostgreSQL $wanted and its headers" "postgresql-$wanted" "postgresql-server-dev-$wanted"
    else
      build_postgres "$wanted"
    fi
    pg_find || die "PostgreSQL $wanted was installed but is not found" "set PG_CONFIG to its pg_config"
  fi
  PG=$(pg_major "$PG_CONFIG")
}
