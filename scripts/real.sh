#!/usr/bin/env bash
# The extension against servers that nobody here wrote: llama.cpp's, and a LiteLLM proxy in front of it.
#
# Both are fetched into the cache folder, once, and run on loopback. Without LiteLLM (750 MB) its part is left out.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage checks

SERVERS=()
URLS=$(mktemp -d)

# All servers end with this script, however it ends.
stop_servers() {
  local server
  for server in "${SERVERS[@]}"; do kill -TERM "$server" 2>/dev/null || true; done
  for server in "${SERVERS[@]}"; do wait "$server" 2>/dev/null || true; done
  rm -rf "$URLS"
}
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# serve_beside NAME SCRIPT...: runs the script in the background and sets URL to the line that it prints when it is
# ready; false if it ends before that.
serve_beside() {
  local name=$1 server
  shift
  if have setpriv; then set -- setpriv --pdeathsig TERM -- "$@"; fi
  "$@" >"$URLS/$name" 2>"$LOGS/$name.log" </dev/null &
  server=$!
  SERVERS+=("$server")
  until [ -s "$URLS/$name" ]; do
    kill -0 "$server" 2>/dev/null || return 1
    sleep 0.1
  done
  URL=$(cat "$URLS/$name")
}

private_server
stage "build and install" install_private
stage "build the tests" cargo test -p autoembed-tests --test real --no-run

# Its threads spin while they wait, and the tests start more such servers.
export LLAMA_ARG_THREADS=1
say "llama.cpp's server (20 MB, fetched once)"
serve_beside llama.cpp "$ROOT/tests/judge/real_server.sh" || {
  tail -n 20 "$LOGS/llama.cpp.log" >&2
  die "the embedding server did not start" "all of its output: $LOGS/llama.cpp.log"
}
export AUTOEMBED_REAL_URL=$URL
skip=()
say "a LiteLLM proxy (750 MB, installed once)"
if serve_beside litellm "$ROOT/tests/judge/litellm_proxy.sh" "$AUTOEMBED_REAL_URL"; then
  export AUTOEMBED_PROXY_URL=$URL
else
  tail -n 5 "$LOGS/litellm.log" >&2
  warn "there is no LiteLLM proxy, so nothing is tested through one (all of its output: $LOGS/litellm.log)"
  skip=(--skip proxy::)
fi

test_stage "tests with real servers" env PG_CONFIG="$PRIVATE_PG_CONFIG" \
  cargo test -p autoembed-tests --test real -- --nocapture "${skip[@]}"
say "all passed in $(((SECONDS - STARTED) / 60)) min $(((SECONDS - STARTED) % 60)) s"
