# A server in the foreground that ends with its script; sourced, never run. Needs common.sh.
# Gives: free_port, serve.

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

answers() {
  python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null
}

# serve URL HEALTH LOG COMMAND...: runs the command, prints URL as soon as HEALTH answers, and ends when it ends.
serve() {
  local url=$1 health=$2 log=$3 server
  shift 3
  # A proxy is for the world outside, not for loopback.
  export NO_PROXY='127.0.0.1,localhost' no_proxy='127.0.0.1,localhost'
  # Whoever ends this script, by whatever signal, ends the server. It has nothing to put in order, and llama-server may
  # hang when it is asked twice to end, as it is where a whole process group gets the signal.
  if have setpriv; then set -- setpriv --pdeathsig KILL -- "$@"; fi
  "$@" >"$log" 2>&1 </dev/null &
  server=$!
  # shellcheck disable=SC2064
  trap "kill -KILL $server 2>/dev/null && wait $server 2>/dev/null || true" EXIT
  # shellcheck disable=SC2064
  trap "rm -f '$log'; exit 143" TERM
  # shellcheck disable=SC2064
  trap "rm -f '$log'; exit 130" INT
  until answers "$health"; do
    kill -0 "$server" 2>/dev/null || {
      tail -n 20 "$log" >&2
      die "the server did not start: $1" "all of its output: $log"
    }
    sleep 0.1
  done
  echo "$url"
  wait "$server"
}
