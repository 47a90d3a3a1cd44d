# What building needs besides PostgreSQL; sourced, never run. Needs common.sh, apt.sh, postgres.sh.
# Gives: ensure_rust, ensure_build_tools, ensure_cargo_pgrx, ensure_pgrx_home.

ensure_rust() {
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
  have cargo || die "cargo is missing" "install Rust: https://rustup.rs"
  # pgrx formats the bindings to the server that it makes. The program may be there without being installed: rustup's stand-in.
  rustfmt --version >/dev/null 2>&1 || die "rustfmt is missing" "run: rustup component add rustfmt"
}

# bindgen loads libclang at build time, and reads the compiler's own headers through it.
libclang_there() {
  if [ -n "${LIBCLANG_PATH-}" ]; then return 0; fi
  local file
  for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* \
    /usr/lib64/llvm*/lib/libclang*.so* /usr/local/lib/libclang*.so* /opt/homebrew/opt/llvm/lib/libclang.dylib \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
    case $file in *cpp*) continue ;; esac
    if [ -e "$file" ]; then return 0; fi
  done
  return 1
}

ensure_build_tools() {
  local missing=() why=()
  have cc || { missing+=(gcc libc6-dev) why+=("a C compiler"); }
  have make || { missing+=(make) why+=("make"); }
  have pkg-config || { missing+=(pkg-config) why+=("pkg-config"); }
  libclang_there && have clang || { missing+=(clang libclang-dev) why+=("clang with libclang"); }
  if [ ${#missing[@]} -gt 0 ]; then
    local list
    list=$(printf ', %s' "${why[@]}")
    apt_install "${list:2}" "${missing[@]}"
  fi
}

# The version that Cargo.toml pins pgrx to: cargo-pgrx must be the same.
pgrx_version() {
  local version
  version=$(sed -nE 's/^pgrx *= *(\{ *version *= *)?"=([0-9.]+)".*/\2/p' "$ROOT/Cargo.toml" | head -n 1)
  [ -n "$version" ] || die "Cargo.toml does not pin pgrx" 'write it as pgrx = "=X.Y.Z"'
  printf '%s' "$version"
}

cargo_pgrx_is() { [ -x "$1" ] && [ "$("$1" pgrx --version 2>/dev/null)" = "cargo-pgrx $2" ]; }

# Sets CARGO_PGRX to a cargo-pgrx of the pinned version, built into the cache if there is none.
ensure_cargo_pgrx() {
  local version found
  version=$(pgrx_version)
  for found in "$CACHE/tools/pgrx-$version/bin/cargo-pgrx" "$(command -v cargo-pgrx || true)"; do
    if cargo_pgrx_is "$found" "$version"; then
      CARGO_PGRX=$found
      return
    fi
  done
  # Its downloads go over OpenSSL, whatever features are chosen.
  if ! pkg-config --exists openssl; then apt_install "the headers of OpenSSL" libssl-dev; fi
  say "building cargo-pgrx $version into $CACHE/tools (some minutes, once)"
  local log=$CACHE/tools/pgrx-$version.log
  mkdir -p "$CACHE/tools"
  # Outside the tree, so that neither its target directory nor its lock file matters.
  (cd "$CACHE" && env -u CARGO_TARGET_DIR cargo install cargo-pgrx --version "=$version" --locked \
    --root "$CACHE/tools/pgrx-$version" >"$log" 2>&1) || {
    tail -n 20 "$log" >&2
    die "cargo-pgrx $version did not build (all of it: $log)" "run: cargo install cargo-pgrx --version =$version --locked"
  }
  CARGO_PGRX=$CACHE/tools/pgrx-$version/bin/cargo-pgrx
  cargo_pgrx_is "$CARGO_PGRX" "$version" || die "cargo-pgrx was built but is not version $version" "remove $CACHE/tools"
}

# A pgrx configuration of our own that knows just this server: ~/.pgrx stays as it is, and two
# versions can be built for side by side.
ensure_pgrx_home() {
  PGRX_HOME=$CACHE/pgrx-$(pgrx_version)/$(printf '%s' "$PG_CONFIG" | tr -c 'A-Za-z0-9.\n' '-')
  export PGRX_HOME
  if grep -qsF "\"$PG_CONFIG\"" "$PGRX_HOME/config.toml"; then return; fi
  mkdir -p "$PGRX_HOME"
  # --no-run: no cluster is made here; tests bring their own.
  "$CARGO_PGRX" pgrx init "--pg$PG=$PG_CONFIG" --no-run >"$PGRX_HOME/init.log" 2>&1 || {
    tail -n 20 "$PGRX_HOME/init.log" >&2
    die "cargo pgrx init failed for $PG_CONFIG" "see $PGRX_HOME/init.log"
  }
}
