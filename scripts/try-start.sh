#!/usr/bin/env bash
# Types docs/getting-started.md word for word into terminals of a fresh root of Debian 13, which has nothing but the base system: commands and statements, with
# the .deb of PostgreSQL 17. Fails where something else is seen than the page shows, or where it takes over five minutes. Needs root, debootstrap and the
# distribution's archive; the providers are the test server, on loopback.
#
#   scripts/try-start.sh DEB
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt tools roots

SUITE=trixie
LIMIT=300
[ $# = 1 ] && [ -f "$1" ] || die "give the .deb to start with" "as in: make package PG=17, then make try-start DEB=target/packages/postgresql-17-autoembed_..."
[ "$(dpkg-deb -f "$1" Package)" = "postgresql-$(suite_pg "$SUITE")-autoembed" ] || die "this is not for the server of Debian 13: $1" "take the package for PostgreSQL $(suite_pg "$SUITE")"
deb=$(readlink -f "$1")
have python3 || apt_install "Python, which types" python3
ensure_rust
cd "$ROOT"
cargo build --quiet -p autoembed-stub
stub=${CARGO_TARGET_DIR:-$ROOT/target}/debug/autoembed-stub

fresh_root "$SUITE"
said=$(mktemp)
"$stub" --vectors hashed:768 --model-dir "$ROOT/share/builtin" >"$said" &
provider=$!
trap 'kill "$provider" 2>/dev/null || true; rm -f "$said"' EXIT
until [ -s "$said" ]; do
  kill -0 "$provider" 2>/dev/null || die "the test server does not start: $stub"
  sleep 0.1
done
url=$(sed -n 's/^listening on //p' "$said")

# What the page says is there: the package and the key, in the folder where one is.
cp "$deb" "$FRESH_ROOT/root/"
printf 'no-provider-knows-this-key\n' >"$FRESH_ROOT/root/openai.key"
# A terminal as containers give it: no language, and nobody has told apt to ask nothing.
enter() { in_terminal "$FRESH_ROOT" env -u LANG -u DEBIAN_FRONTEND -C /root TERM=dumb PS1='[$?]$ ' setsid --ctty bash --norc --noprofile; }
export -f in_terminal enter
export FRESH_ROOT

say "docs/getting-started.md on $SUITE, with $(basename "$deb")"
"$ROOT/scripts/lib/typed.py" "$ROOT/docs/getting-started.md" --limit "$LIMIT" --leave "make install" --leave "ollama pull" \
  --moved "UPDATE autoembed.models SET url = CASE provider WHEN 'openai' THEN '$url/v1' ELSE '$url' END WHERE provider IN ('openai', 'ollama')" \
  -- bash -c enter || die "the page does not hold on $SUITE" "its root is still there: $FRESH_ROOT"
remove_root "$FRESH_ROOT"
