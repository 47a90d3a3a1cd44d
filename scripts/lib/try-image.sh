# Run by try-dockerfile.sh in the root of the last stage: try-image.sh CMD starts the server as the image does, and uses it.
set -euo pipefail
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
data=/var/lib/postgresql/data
mkdir -p "$data" && chown postgres:postgres "$data"
cd /
as_postgres initdb -D "$data" -A trust >/dev/null
# shellcheck disable=SC2086
as_postgres env PGDATA="$data" $1 >/tmp/server.log 2>&1 &
for _ in $(seq 100); do if as_postgres pg_isready -q; then break; fi; sleep 0.1; done
as_postgres psql -X -v ON_ERROR_STOP=1 -f - postgres </root/session.sql
found=$(as_postgres psql -XAtqc "SELECT content FROM similar_messages('delivery problems', 1)" postgres)
[ "$found" = "my parcel never arrived" ] || { echo "error: the search finds '$found'" >&2; exit 1; }
loaded=$(as_postgres psql -XAtqc 'SHOW shared_preload_libraries' postgres)
[ "$loaded" = autoembed ] || { echo "error: the library is not preloaded" >&2; exit 1; }
as_postgres pg_ctl -D "$data" -m fast -s stop
