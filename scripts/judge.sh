#!/usr/bin/env bash
# The test server's wire formats, judged by the providers' own clients from PyPI. Arguments: the clients, if not all.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common tools

JUDGE=$ROOT/tests/judge
VENV=$CACHE/judge
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

# The clients, installed once and again whenever their versions change; whole or not at all.
ensure_clients() {
  if cmp -s "$JUDGE/requirements.txt" "$VENV/requirements.txt"; then return; fi
  have python3 || die "python3 is missing" "install it"
  say "installing the providers' clients into $VENV"
  rm -rf "$VENV"
  mkdir -p "$CACHE"
  python3 -m venv "$VENV" ||
    die "python3 cannot make an environment of its own" "on Debian and Ubuntu: install python3-venv"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement "$JUDGE/requirements.txt" ||
    die "the clients could not be installed" "they come from PyPI, or from the index that pip is configured for"
  cp "$JUDGE/requirements.txt" "$VENV/requirements.txt"
}

ensure_rust
ensure_clients
(cd "$ROOT" && cargo build --quiet -p autoembed-stub)
# Nothing is written beside the sources.
PYTHONDONTWRITEBYTECODE=1 exec "$VENV/bin/python" "$JUDGE/judge.py" "$TARGET/debug/autoembed-stub" "$@"
