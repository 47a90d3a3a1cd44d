# The interpreters and packages that the programs of examples/clients want; sourced, never run. Needs common.sh, apt.sh, stage.sh.
# Gives: clients_stages, CLIENTS_NOT_RUN, ensure_python, ensure_node, CLIENTS.

# A folder of the cache: python/ is an environment, node/ has node_modules and a link to the interpreter.
CLIENTS=$CACHE/clients
CLIENT_SOURCES=$ROOT/examples/clients

python_usable() {
  have python3 && python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

node_usable() {
  have npm && have node && node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)' >/dev/null 2>&1
}

# False where there is no interpreter that is new enough, and apt may not install one or has none.
ensure_python() {
  if python_usable; then return; fi
  apt_usable || return 1
  # In a shell of its own: that none can be had ends nothing else.
  (apt_install "Python for the clients" python3 python3-venv) || return 1
  python_usable
}

ensure_node() {
  if node_usable; then return; fi
  apt_usable || return 1
  (apt_install "Node for the clients" nodejs npm) || return 1
  node_usable
}

# Whole or not at all, and again whenever versions change: the list of what is there is written last.
prepare_python() {
  local wanted list=$CLIENTS/python/installed
  wanted=$(python3 --version && cat "$CLIENT_SOURCES/python/requirements.txt")
  if [ "$(cat "$list" 2>/dev/null)" = "$wanted" ] && "$CLIENTS/python/bin/python" -c 'import psycopg' 2>/dev/null; then
    echo "there already: $CLIENTS/python"
    return
  fi
  rm -rf "$CLIENTS/python"
  mkdir -p "$CLIENTS"
  python3 -m venv "$CLIENTS/python" || die "python3 cannot make an environment of its own" "on Debian and Ubuntu: install python3-venv"
  "$CLIENTS/python/bin/pip" install --disable-pip-version-check --only-binary :all: --requirement "$CLIENT_SOURCES/python/requirements.txt" ||
    die "the clients for Python could not be installed" "they come from PyPI, or from the index that pip is configured for; WITHOUT_CLIENTS=1 leaves them out"
  printf '%s\n' "$wanted" >"$list"
}

prepare_node() {
  local wanted list=$CLIENTS/node/installed
  wanted=$(node --version && cat "$CLIENT_SOURCES/node/package-lock.json")
  if [ "$(cat "$list" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$CLIENTS/node"
    mkdir -p "$CLIENTS/node"
    cp "$CLIENT_SOURCES/node/package.json" "$CLIENT_SOURCES/node/package-lock.json" "$CLIENTS/node/"
    npm --prefix "$CLIENTS/node" ci --ignore-scripts --no-audit --no-fund ||
      die "the clients for Node could not be installed" "they come from the registry that npm is configured for; WITHOUT_CLIENTS=1 leaves them out"
    printf '%s\n' "$wanted" >"$list"
  fi
  # The interpreter itself, not a version manager's stand-in for it.
  ln -sfn "$(node -p process.execPath)" "$CLIENTS/node/node"
}

# The scenarios of one language. They are ignored by a plain run of the tests, which does not have what is prepared here.
client_scenarios() {
  env AUTOEMBED_CLIENTS="$CLIENTS" PG_CONFIG="$PRIVATE_PG_CONFIG" \
    cargo test -p autoembed-tests --test cases -- --ignored "clients::in_$1::"
}

# What was left out, for the last line of a run.
CLIENTS_NOT_RUN=

# without_client LANGUAGE WHY
without_client() {
  warn "the clients in $1 are NOT run: $2"
  CLIENTS_NOT_RUN+="${CLIENTS_NOT_RUN:+, }clients in $1"
}

# The scenarios that can be run here, a stage a language; the others are named, and count as not run. WITHOUT_CLIENTS=1: none.
clients_stages() {
  if [ "${WITHOUT_CLIENTS:-0}" != 0 ]; then
    without_client "Python and JavaScript" "WITHOUT_CLIENTS is set"
    return
  fi
  if ensure_python; then
    stage "packages for Python" prepare_python
    test_stage "clients in Python" client_scenarios python
  else
    without_client Python "there is no python3 of 3.11 or later with venv, and none to be had through apt"
  fi
  if ensure_node; then
    stage "packages for JavaScript" prepare_node
    test_stage "clients in JavaScript" client_scenarios node
  else
    without_client JavaScript "there is no node of 18 or later with npm, and none to be had through apt"
  fi
}
