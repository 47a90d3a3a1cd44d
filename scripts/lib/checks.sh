# The stages of test.sh and lint.sh; sourced, never run. Needs load.sh and stage.sh.
# Gives: style_checks, clippy_extension, in_server_tests, clean_in_server_tests, keep_test_build, install_private,
# run_program, scenarios, say_failed_once.

style_checks() {
  have python3 || apt_install "Python, for the checks of licences and of META.json" python3
  stage "format" cargo fmt --all --check
  stage "clippy" clippy
  stage "lengths of files" no_long_file
  stage "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
  stage "links and code in docs" "$ROOT/scripts/check-docs.sh"
  if ! cargo_deny_path >/dev/null; then stage "build cargo-deny, once" build_cargo_deny; fi
  stage "licences and sources" licence_check
  stage "versions that are out" "$ROOT/scripts/released.sh"
  stage "list of licences" "$ROOT/scripts/licences.py" --check
  stage "META.json and versions" "$ROOT/scripts/meta.py"
  stage "traps in SQL scripts" "$ROOT/scripts/pgspot.sh"
}

clippy_extension() { cargo clippy -p autoembed --all-targets --no-default-features --features "pg$PG pg_test" -- -D warnings; }

clippy() {
  clippy_extension &&
    cargo clippy --workspace --exclude autoembed --all-targets -- -D warnings &&
    cargo clippy -p autoembed-tests --test real -- -D warnings
}

# A file answers one question. One of over 500 lines says why it does, in a comment that begins "Long because". (Released scripts are
# as they were made.)
no_long_file() {
  local file lines found=0
  while IFS= read -r file; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 500 ] && ! grep -qE '^ *(//|--|#) Long because ' "$file"; then
      printf '%s has %s lines\n' "$file" "$lines"
      found=1
    fi
  done < <(find src sql pg_test tests scripts -path sql/released -prune -o \( -name '*.rs' -o -name '*.sql' -o -name '*.sh' -o -name '*.py' \) -print)
  return "$found"
}

CARGO_DENY_VERSION=0.20.2

cargo_deny_path() {
  if have cargo-deny; then
    command -v cargo-deny
  else
    ls "$CACHE/tools/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny" 2>/dev/null
  fi
}

build_cargo_deny() {
  cd "$CACHE" && env -u CARGO_TARGET_DIR cargo install cargo-deny --version "=$CARGO_DENY_VERSION" --locked \
    --root "$CACHE/tools/cargo-deny-$CARGO_DENY_VERSION"
}

# Not the advisories: they change from day to day and need the network.
licence_check() { "$(cargo_deny_path)" check bans licenses sources; }

# The user that runs the server where root may not.
server_user() {
  local user
  for user in postgres nobody; do
    if id "$user" >/dev/null 2>&1; then
      printf '%s' "$user"
      return
    fi
  done
  die "root cannot run a PostgreSQL server, and there is no user to run it as" "create one: useradd --system postgres"
}

in_server_tests() {
  local data=$PRIVATE_BASE/data home options=()
  clean_in_server_tests
  home=$(private_pgrx_home)
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$data"
    chown "$(server_user)" "$data"
    options=(--runas "$(server_user)")
    PATH=$ROOT/scripts/lib/shims:$PATH
  fi
  # RUST_BACKTRACE would put backtraces into the DETAIL that clients see; the other one would have the test build installed elsewhere.
  env -u RUST_BACKTRACE -u PGRX_PG_CONFIG_PATH USER="$(id -un)" PGRX_HOME="$home" \
    REAL_CARGO_PGRX="$CARGO_PGRX" CARGO_PGRX="$ROOT/scripts/lib/shims/cargo-pgrx-install" \
    "$CARGO_PGRX" pgrx test "pg$PG" --package autoembed --no-default-features --features "pg$PG" \
    --pgdata "$data" "${options[@]}"
}

# The in-server tests leave a test build in the copy: another copy keeps it, for scenarios that hold a process at a place.
keep_test_build() {
  rm -rf "$PRIVATE_BASE/test-pg$PG"
  cp -a "$PRIVATE_BASE/pg$PG" "$PRIVATE_BASE/test-pg$PG"
  TEST_BUILD_PG_CONFIG=$PRIVATE_BASE/test-pg$PG$("$PG_CONFIG" --bindir)/pg_config
  # What cargo pgrx does not install.
  local share
  share=$PRIVATE_BASE/test-pg$PG$("$PG_CONFIG" --sharedir)
  mkdir -p "$share/autoembed/builtin"
  cp "$ROOT"/share/builtin/* "$share/autoembed/builtin/"
  add_released "$share/extension"
}

# pgrx looks the server up here. Written once: bindings are made again whenever the file is newer.
private_pgrx_home() {
  local home=$PRIVATE_BASE/pgrx-pg$PG config
  config=$(printf '[configs]\npg%s = "%s"' "$PG" "$PRIVATE_PG_CONFIG")
  mkdir -p "$home"
  if [ "$(cat "$home/config.toml" 2>/dev/null)" != "$config" ]; then printf '%s\n' "$config" >"$home/config.toml"; fi
  printf '%s' "$home"
}

# Stops the servers that a broken run of the in-server tests left, and removes their data.
clean_in_server_tests() {
  local data=$PRIVATE_BASE/data file pid
  if [ ! -d "$data" ]; then return 0; fi
  for file in "$data"/*/postmaster.pid; do
    if [ ! -f "$file" ]; then continue; fi
    pid=$(head -n 1 "$file")
    # The number may be another process's by now: a postmaster's directory is its data directory.
    if [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(dirname "$file")" ]; then
      kill -QUIT "$pid" 2>/dev/null || true
      while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
  done
  rm -rf "$data"
}

install_private() {
  build_package "$TARGET/release/autoembed-pg$PG" && install_package "$TARGET/release/autoembed-pg$PG" "$PRIVATE_BASE/pg$PG"
}

# run_program NAME ARGUMENT...: a program of tests/src/bin, with the extension in a private copy of the server. It takes the script's place.
run_program() {
  local name=$1
  shift
  private_server
  stage "build the extension" install_private
  stage "build the program" cargo build --release -p autoembed-tests --bin "$name"
  # A server that has RUST_BACKTRACE puts backtraces into the details that clients see.
  exec env -u RUST_BACKTRACE PG_CONFIG="$PRIVATE_PG_CONFIG" "$TARGET/release/$name" "$@"
}

# The tests through SQL. Hundreds of servers that share few cores with their clients make one in some thousand scenarios late: up to
# three that failed are tried again, one at a time, and named in FAILED_ONCE. Both outputs stay in the log. With parts of names only those
# scenarios.
FAILED_ONCE=$LOGS/failed-once.txt
scenarios() {
  local output=$LOGS/scenarios-on-$PG.log again=$LOGS/scenarios-again-on-$PG.log names some=(--no-fail-fast) part
  : >"$FAILED_ONCE"
  if [ "$#" -gt 0 ]; then some=(--no-fail-fast --test cases -- "$@"); fi
  if cargo_scenarios "${some[@]}" 2>&1 | tee "$output"; then
    for part in "$@"; do grep -q "^test $part" "$output" || die "no scenario is called $part"; done
    return
  fi
  # Nothing but scenarios may have failed, and each must have come to its end: a program that crashed, or did not compile, names none.
  [ "$(sed -n '/^error: [0-9]* targets\{0,1\} failed:$/,$p' "$output" | grep -c '^ *`')" = 1 ] || return 1
  grep -q '^ *`-p autoembed-tests --test cases`$' "$output" || return 1
  if grep -qE "process didn't exit successfully.*signal|could not compile" "$output"; then return 1; fi
  mapfile -t names < <(failed_tests "$output")
  if [ "${#names[@]}" = 0 ] || [ "${#names[@]}" -gt 3 ]; then return 1; fi
  printf '\n==> once more, alone: %s\n' "${names[*]}"
  cargo_scenarios --test cases -- --exact --test-threads 1 "${names[@]}" 2>&1 | tee "$again" || return 1
  # A name that is no scenario's has been tried by nobody.
  grep -q "^test result: ok. ${#names[@]} passed" "$again" || return 1
  printf '%s\n' "${names[@]}" >"$FAILED_ONCE"
}

say_failed_once() {
  if [ -s "$FAILED_ONCE" ]; then warn "failed beside others and passed alone, look why: $(tr '\n' ' ' <"$FAILED_ONCE")"; fi
}

cargo_scenarios() {
  env PG_CONFIG="$PRIVATE_PG_CONFIG" TEST_BUILD_PG_CONFIG="$TEST_BUILD_PG_CONFIG" cargo test -p autoembed-tests "$@"
}

# The names in cargo test's closing lists of failures.
failed_tests() { awk '/^failures:$/ { inside = 1; next } /^test result:/ { inside = 0 } inside && /^    [a-z0-9_:]+$/ { print $1 }' "$1" | sort -u; }
