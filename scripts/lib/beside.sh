# Programs of others beside which scenarios run a server: PgBouncer, postgres_exporter; sourced, never run. Needs common.sh, apt.sh, stage.sh, checks.sh.
# Gives: beside_stages, BESIDE_NOT_RUN, ensure_beside, BESIDE.

# A folder of the cache with a program, or a link to it, under the name that the scenarios know.
BESIDE=$CACHE/beside

# beside_package PACKAGE FILE NAME: the program out of the distribution's package. The package is not installed, since that would start a
# service; only the libraries that it wants and the system lacks are.
beside_package() {
  local package=$1 file=$2 name=$3 new library missing=()
  new=$(mktemp -d "$BESIDE/new.XXXXXX")
  # Lists that are there may be older than the archive: one more try with fresh ones.
  if ! (cd "$new" && { apt-get -qq download "$package" || { apt_update && apt-get -qq download "$package"; }; } && dpkg-deb -x "$package"_*.deb files); then
    rm -rf "$new"
    return 1
  fi
  case $(ldd "$new/files/$file") in
    *'not found'*)
      # Only what is not there: to name another would bring it up to date.
      for library in $(dpkg-deb -f "$new/$package"_*.deb Depends | tr ',' '\n' | sed -nE 's/^ *(lib[a-z0-9.+-]+)( .*)?$/\1/p'); do
        dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q '^install ok installed' || missing+=("$library")
      done
      apt_install "what $package links to" "${missing[@]}"
      ;;
  esac
  mv -f "$new/files/$file" "$BESIDE/$name"
  rm -rf "$new"
}

# beside_there NAME FILE: true where there is one that runs. What the system has comes first.
beside_there() {
  local name=$1 file=$2 program
  mkdir -p "$BESIDE"
  # Not always on the path of those who are not root.
  for program in "$(command -v "$name" || true)" "/$file"; do
    if [ -n "$program" ] && [ -x "$program" ]; then
      ln -sfn "$program" "$BESIDE/$name"
      break
    fi
  done
  [ -x "$BESIDE/$name" ] && "$BESIDE/$name" --version
}

# ensure_beside NAME PACKAGE FILE
ensure_beside() {
  local name=$1 package=$2 file=$3
  if beside_there "$name" "$file"; then return; fi
  rm -f "$BESIDE/$name"
  beside_package "$package" "$file" "$name" || return 1
  beside_there "$name" "$file" || die "$name of the package $package does not run" "remove $BESIDE"
}

# The scenarios of one program. They are ignored by a plain run of the tests, which does not have what is prepared here. As the others,
# one that was late beside others is tried once more, alone, and named.
beside_scenarios() {
  local output=$LOGS/${1%%:*}-on-$PG.log
  if cargo_beside "$1" 2>&1 | tee "$output"; then return; fi
  grep -q '^test result: FAILED' "$output" || return 1
  if grep -q "process didn't exit successfully.*signal" "$output"; then return 1; fi
  printf '\n==> once more, one by one\n'
  cargo_beside "$1" --test-threads 1 || return 1
  failed_tests "$output" >>"$FAILED_ONCE"
}

cargo_beside() {
  env AUTOEMBED_BESIDE="$BESIDE" PG_CONFIG="$PRIVATE_PG_CONFIG" cargo test -p autoembed-tests --test cases -- --ignored "$@"
}

# What was left out, for the last line of a run.
BESIDE_NOT_RUN=

# beside_stage PROGRAM SCENARIOS NAME PACKAGE FILE
beside_stage() {
  local program=$1 scenarios=$2
  shift 2
  # In a shell of its own: that apt has no lists, may not fetch them, or finds nothing where they say, ends nothing else.
  if (beside_there "$1" "$3") >/dev/null 2>&1 || (apt_usable && apt_candidate "$2" && ensure_beside "$@" >/dev/null); then
    test_stage "scenarios with $program" beside_scenarios "$scenarios"
  else
    warn "the scenarios with $program are NOT run: it is not there, and not to be had through apt"
    BESIDE_NOT_RUN+="${BESIDE_NOT_RUN:+, }scenarios with $program"
  fi
}

# The scenarios that can be run here, a stage a program; the others are named, and count as not run.
beside_stages() {
  beside_stage PgBouncer poolers:: pgbouncer pgbouncer usr/sbin/pgbouncer
  beside_stage postgres_exporter exporter:: prometheus-postgres-exporter prometheus-postgres-exporter usr/bin/prometheus-postgres-exporter
}
