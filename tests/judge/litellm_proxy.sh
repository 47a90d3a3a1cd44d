#!/usr/bin/env bash
# A proxy that nobody here wrote, between our client and an embedding server: LiteLLM's, from PyPI.
#
#   litellm_proxy.sh UPSTREAM [PORT]   UPSTREAM is the base URL of an OpenAI server, as the test server's or that of
#                                      real_server.sh; prints its own base URL when it is ready, and runs until ended
#   REAL_KEY=...                       the key for the proxy and for the server behind it (sk-proxy)
#
# Its one model is called 'proxied'. Large: 750 MB in the cache folder, installed in a minute or two, once.
set -euo pipefail
export LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
# shellcheck source=/dev/null
. "$ROOT/tests/judge/serve.sh"

VERSION=1.106.2
VENV=$CACHE/litellm

ensure_litellm() {
  if [ "$(cat "$VENV/version" 2>/dev/null)" = "$VERSION" ]; then return; fi
  say "installing LiteLLM $VERSION into $VENV" >&2
  rm -rf "$VENV"
  mkdir -p "$CACHE"
  python3 -m venv "$VENV" ||
    die "python3 cannot make an environment of its own" "on Debian and Ubuntu: install python3-venv"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check "litellm[proxy]==$VERSION" >&2 ||
    die "LiteLLM could not be installed" "it comes from PyPI, or from the index that pip is configured for"
  echo "$VERSION" >"$VENV/version"
}

[ $# -ge 1 ] || die "no server to be a proxy for" "usage: litellm_proxy.sh http://127.0.0.1:PORT/v1 [PORT]"
have python3 || die "python3 is missing" "install it"
ensure_litellm
upstream=$1
port=${2:-$(free_port)}
key=${REAL_KEY:-sk-proxy}
config=$VENV/config-$port.json
# JSON is YAML too. What the model does not take is dropped, and nothing is tried twice: that is the client's business.
UPSTREAM=$upstream KEY=$key python3 - >"$config" <<'PYTHON'
import json
import os

server = {"api_base": os.environ["UPSTREAM"], "api_key": os.environ["KEY"], "max_retries": 0}
model = {"model_name": "proxied", "litellm_params": {"model": "openai/proxied", **server}}
settings = {"num_retries": 0, "drop_params": True, "telemetry": False}
print(json.dumps({
    "model_list": [model],
    "litellm_settings": settings,
    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    "general_settings": {"master_key": os.environ["KEY"]},
}))
PYTHON
# Whatever it would fetch from outside ends at a port where nobody listens.
export LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_TELEMETRY=False
export HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 ALL_PROXY=http://127.0.0.1:9
serve "http://127.0.0.1:$port/v1" "http://127.0.0.1:$port/health/liveliness" "$VENV/server-$port.log" \
  "$VENV/bin/litellm" --config "$config" --host 127.0.0.1 --port "$port"
