#!/usr/bin/env bash
# Builds the extension and installs it into the server of PG_CONFIG, asking for sudo only if its directories need it.
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" stage

stage "build the extension" build_package "$TARGET/release/autoembed-pg$PG"
install_package "$TARGET/release/autoembed-pg$PG"
say "installed into PostgreSQL $PG ($("$PG_CONFIG" --pkglibdir))"
cat <<'NEXT'
    Now, in any database of that server:
      CREATE EXTENSION autoembed CASCADE;
    With shared_preload_libraries = 'autoembed' (and a restart) work also goes on after a restart of the server.
NEXT
