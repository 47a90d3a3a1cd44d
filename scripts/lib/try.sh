# Run by try-package.sh inside a fresh root, as root: try.sh PG DEB. What users type is in files beside this one, typed-*.
set -euo pipefail
cd /srv/try
PG=$1 DEB=$2
PACKAGE=${DEB%%_*}

step() { printf '    %s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
# quiet COMMAND...: shows its output where it fails.
quiet() { "$@" >/srv/try/log 2>&1 || { tail -n 40 /srv/try/log >&2; fail "failed: $*"; }; }
sql() { sudo -u postgres psql -XAtqc "$1" "${2:-app}"; }

quiet apt-get -qq update
quiet apt-get -qq -y install sudo
# Only what packages bring is of interest: not apt's own logs and lists, not the page and the package that this test brought.
traces() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /root -o -path /srv -o -path /var/log -o -path /var/cache -o -path /var/lib/postgresql \) -prune -o -iname '*autoembed*' -print
}
[ -z "$(traces)" ] || fail "the fresh root has it already: $(traces)"

began=$SECONDS
step "install, as docs/packages.md says"
quiet bash -e -x /srv/try/typed-install
grep -q "needs pgvector" /srv/try/log && told=1 || told=0
pgvector=/usr/share/postgresql/$PG/extension/vector.control
[ "$told" = "$([ -e "$pgvector" ] && echo 0 || echo 1)" ] || fail "the package says that pgvector is missing where it is there, or does not say it where it is not"
if [ -s /srv/try/typed-pgvector ]; then
  step "pgvector, as docs/packages.md says"
  quiet bash -e -x /srv/try/typed-pgvector
fi
[ -e "$pgvector" ] || fail "there is no pgvector now"
step "there after $((SECONDS - began)) s"

# A system without systemd: its administrator starts the server.
pg_lsclusters -h | grep -q online || quiet pg_ctlcluster "$PG" main start
step "a first session, as docs/packages.md says"
sudo -u postgres createdb app
sudo -u postgres psql -X -v ON_ERROR_STOP=1 -f /srv/try/typed-session app >/srv/try/session.out 2>&1 </dev/null ||
  { cat /srv/try/session.out >&2; fail "the first session failed"; }
cat /srv/try/session.out
[ "$(sql "SELECT count(*) FROM messages WHERE embedding IS NOT NULL")" = 4 ] || fail "not all rows are embedded"
[ "$(sql "SELECT content FROM similar_messages('delivery problems', 1)")" = "my parcel never arrived" ] || fail "the search finds something else"
step "pgvector $(sql "SELECT extversion FROM pg_extension WHERE extname = 'vector'"), $(sql 'SHOW server_version')"

step "preloaded, after a restart"
sql "ALTER SYSTEM SET shared_preload_libraries = 'autoembed'"
quiet pg_ctlcluster "$PG" main restart
sql "INSERT INTO messages (content) VALUES ('where is my refund?')"
for _ in $(seq 100); do
  left=$(sql "SELECT count(*) FROM messages WHERE embedding IS NULL")
  if [ "$left" = 0 ]; then break; fi
  sleep 0.1
done
[ "$left" = 0 ] || fail "a row that came after a restart is not embedded"

step "the same package once more, beside a running server"
cp "$pgvector" /srv/try/pgvector.before
quiet apt-get -qq -y --reinstall install "./$DEB"
cmp "$pgvector" /srv/try/pgvector.before || fail "the package brings another pgvector than the one that was there"
[ "$(sql "SELECT content FROM similar_messages('delivery problems', 1)")" = "my parcel never arrived" ] || fail "the search finds something else after a reinstallation"

step "dpkg finds no file changed"
[ -z "$(dpkg --verify "$PACKAGE")" ] || fail "files are not as the package brought them: $(dpkg --verify "$PACKAGE")"

step "removed, as docs/packages.md says"
bash -e -x /srv/try/typed-remove >/srv/try/log 2>&1 || { tail -n 40 /srv/try/log >&2; fail "it could not be removed"; }
if grep -q "^warning: .*shared_preload_libraries" /srv/try/log; then fail "the package warns of a setting that is no longer there"; fi
[ -z "$(traces)" ] || fail "left behind: $(traces)"
! dpkg -l "$PACKAGE" 2>/dev/null | grep -q '^[a-z][a-z]*  *postgresql.*autoembed' || fail "dpkg still knows the package"
quiet pg_ctlcluster "$PG" main restart
[ "$(sql "SELECT count(*) FROM messages WHERE embedding IS NOT NULL")" = 5 ] || fail "the vectors are gone with the package"

step "removed while a server is told to load it: a warning"
quiet bash -e -x /srv/try/typed-install
cmp "$pgvector" /srv/try/pgvector.before || fail "the package brings another pgvector than the one that was there"
sql "ALTER SYSTEM SET shared_preload_libraries = 'autoembed'"
apt-get -qq -y purge "$PACKAGE" >/srv/try/log 2>&1 || fail "it could not be removed"
grep -q "^warning: .*shared_preload_libraries" /srv/try/log || { cat /srv/try/log >&2; fail "no warning"; }

if [ -e release.tar.gz ]; then
  step "the tarball: installed, used, removed"
  sql "ALTER SYSTEM RESET shared_preload_libraries"
  quiet pg_ctlcluster "$PG" main restart
  mkdir unpacked
  tar -C unpacked -xzf release.tar.gz --strip-components=1
  quiet unpacked/install.sh
  sudo -u postgres createdb again
  sudo -u postgres psql -X -v ON_ERROR_STOP=1 -f /srv/try/typed-session again >/srv/try/again.out 2>&1 </dev/null || { cat /srv/try/again.out >&2; fail "the first session failed"; }
  diff /srv/try/session.out /srv/try/again.out || fail "a first session with the tarball's library differs"
  sql "DROP EXTENSION autoembed" again
  quiet unpacked/install.sh --remove
  [ -z "$(traces)" ] || fail "the tarball's script leaves behind: $(traces)"
fi
pg_ctlcluster "$PG" main stop
