# A PostgreSQL of our own, built from the distribution's source package into the cache; sourced, never run.
# Needs common.sh and apt.sh. Gives: built_root, built_pg_config, build_postgres.
#
# For majors of which the system has no packages. It is laid out as Debian's packages are, below a folder that
# stands for the root of a machine: PostgreSQL finds its directories from where its own program lies.

built_root() { printf '%s/pg%s' "$CACHE" "$1"; }

built_pg_config() { printf '%s/usr/lib/postgresql/%s/bin/pg_config' "$(built_root "$1")" "$1"; }

# The suites of Debian that have a major's source package, the steadiest first. 16 was in no release.
built_suites() {
  case $1 in
    15) echo bookworm ;;
    17) echo trixie ;;
    18) echo forky sid ;;
  esac
}

built_elsewhere() {
  die "$1" "install postgresql-$2 and postgresql-server-dev-$2 from the PostgreSQL project's own repository, https://wiki.postgresql.org/wiki/Apt, or set PG_CONFIG to a server's pg_config"
}

built_archive() {
  local found
  found=$(find "$CACHE/postgresql" -maxdepth 1 -name "postgresql-$1_*.orig.tar.*" ! -name '*.asc' 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] && printf '%s' "$found"
}

# Downloads the sources of a major, unless they are there.
fetch_postgres() {
  local major=$1 suites suite
  if built_archive "$major" >/dev/null; then return; fi
  suites=$(built_suites "$major")
  [ -n "$suites" ] || built_elsewhere "no PostgreSQL $major was found, and no suite of Debian has its sources" "$major"
  for suite in $suites; do
    say "fetching the source package of PostgreSQL $major (Debian $suite)"
    if apt_source "$suite" "postgresql-$major" "$CACHE/postgresql"; then return; fi
  done
  built_elsewhere "the source package of PostgreSQL $major could not be fetched from Debian $suites" "$major"
}

ensure_postgres_build_tools() {
  local missing=() why=()
  have bison || { missing+=(bison) why+=("bison"); }
  have flex || { missing+=(flex) why+=("flex"); }
  have perl || { missing+=(perl) why+=("perl"); }
  have bzip2 || { missing+=(bzip2) why+=("bzip2"); }
  pkg-config --exists zlib || { missing+=(zlib1g-dev) why+=("the headers of zlib"); }
  pkg-config --exists openssl || { missing+=(libssl-dev) why+=("the headers of OpenSSL"); }
  pkg-config --exists icu-uc icu-i18n || { missing+=(libicu-dev) why+=("the headers of ICU"); }
  if [ ${#missing[@]} -gt 0 ]; then
    local list
    list=$(printf ', %s' "${why[@]}")
    apt_install "${list:2}, for building PostgreSQL" "${missing[@]}"
  fi
}

# build_postgres MAJOR: builds it, once, with its contrib modules.
build_postgres() {
  local major=$1 root build log began=$SECONDS
  root=$(built_root "$major")
  apt_usable || built_elsewhere "no PostgreSQL $major with server headers was found" "$major"
  fetch_postgres "$major"
  ensure_postgres_build_tools
  build=$(mktemp -d "$CACHE/postgresql/build-$major.XXXXXX")
  log=$CACHE/postgresql/build-$major.log
  say "building PostgreSQL $major into $root (some minutes, once)"
  if ! (make_postgres "$major" "$build") >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -rf "$build"
    built_elsewhere "PostgreSQL $major did not build (all of it: $log)" "$major"
  fi
  # Whole or not at all: of two that build at once, the first one's stays.
  if ! mv -T "$build/root" "$root" 2>/dev/null; then [ -x "$(built_pg_config "$major")" ] || die "$root is in the way" "remove it"; fi
  rm -rf "$build"
  say "built $("$(built_pg_config "$major")" --version) in $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
}

# In a shell of its own, whose every step must succeed; an `if` around it would switch that off.
make_postgres() {
  local major=$1 build=$2 archive jobs
  archive=$(built_archive "$major") && jobs=$(nproc) && mkdir "$build/source" &&
    tar -xf "$archive" -C "$build/source" --strip-components=1 && cd "$build/source" &&
    # The programs find libpq beside themselves, wherever they are copied to. Make halves the dollars.
    ./configure --prefix="/usr/lib/postgresql/$major" --datadir="/usr/share/postgresql/$major" \
      --includedir="/usr/include/postgresql/$major" --disable-rpath LDFLAGS="-Wl,-rpath,'\$\$ORIGIN/../lib'" \
      --with-icu --with-openssl --without-readline &&
    make -s -j"$jobs" && make -s -j"$jobs" -C contrib &&
    make -s install DESTDIR="$build/root" && make -s -C contrib install DESTDIR="$build/root" &&
    "$build/root/usr/lib/postgresql/$major/bin/psql" --version
}
