#!/usr/bin/env bash
# Follows the Dockerfile without Docker: each of its instructions is carried out in roots of Debian 13, then the server is started as its CMD
# says, and used. Needs root, debootstrap and the network, and as long as two release builds. QUICK=1 takes this machine's cargo-pgrx, and
# builds without optimising.
#
# What is not as in Docker: the roots have Debian's own PostgreSQL 17 and pgvector where the official image has those of PostgreSQL's archive; the image of
# Rust is this machine's toolchain with the crates that it has; the entry point of the official image is not there, so that the cluster is made by initdb.
. "$(dirname "${BASH_SOURCE[0]}")/lib/begin.sh" common apt roots

SUITE=trixie
declare -A GLOBAL=() ROOTS=()
LOG=${CARGO_TARGET_DIR:-$ROOT/target}/logs/dockerfile.log
mkdir -p "$(dirname "$LOG")"
: >"$LOG"

# The instructions, one a line: without comments, continued lines joined.
instructions() {
  sed -e '/^[[:space:]]*#/d' "$ROOT/Dockerfile" | sed -e ':again' -e '/\\$/{N;s/[[:space:]]*\\\n[[:space:]]*/ /;b again' -e '}' | sed '/^[[:space:]]*$/d'
}

# expand TEXT: the ${NAME} of the stage's arguments, as Docker puts them in.
expand() {
  local text=$1 name
  for name in "${!VALUES[@]}"; do text=${text//\$\{$name\}/${VALUES[$name]}}; done
  printf '%s' "$text"
}

# from IMAGE: what stands in for the official images.
from() {
  fresh_root "$SUITE"
  STAGE=$FRESH_ROOT
  case $1 in
    rust:*) rust_image "$STAGE" ;;
    postgres:*) postgres_image "$STAGE" ;;
    *) die "the Dockerfile is based on $1, for which nothing stands in here" ;;
  esac
}

rust_image() {
  local to=$1/usr/local toolchain
  toolchain=$(rustc --print sysroot)
  mkdir -p "$to/rustup" "$to/cargo/bin"
  cp -a "$(dirname "$toolchain")/../settings.toml" "$to/rustup/"
  mkdir "$to/rustup/toolchains"
  tar -C "$(dirname "$toolchain")" --exclude=share/doc/rust/html -cf - "$(basename "$toolchain")" | tar -C "$to/rustup/toolchains" -xf -
  cp -a "${CARGO_HOME:-$HOME/.cargo}/bin"/{rustup,cargo,rustc,rustfmt} "$to/cargo/bin/"
  if [ -n "${QUICK-}" ]; then cp "$CACHE"/tools/pgrx-*/bin/cargo-pgrx "$to/cargo/bin/"; fi
  # Where SSL_CERT_FILE names other authorities than the root's, cargo trusts them as well.
  if [ -r "${SSL_CERT_FILE-}" ]; then
    cp "$SSL_CERT_FILE" "$to/cargo/roots.pem"
    printf '[http]\ncainfo = "/usr/local/cargo/roots.pem"\n' >"$to/cargo/config.toml"
  fi
  if [ -d "${CARGO_HOME:-$HOME/.cargo}/registry" ]; then cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$to/cargo/"; fi
}

# As the official image: the server, its user, no cluster, the programs on PATH.
postgres_image() {
  inside "$1" bash -euc 'apt-get -qq update
    apt-get -qq -y --no-install-recommends install postgresql-common
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt-get -qq -y --no-install-recommends install "postgresql-$1"
    rm -rf /var/lib/apt/lists/*' - "$(suite_pg "$SUITE")" >>"$LOG" 2>&1
  STAGE_ENV=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/$(suite_pg "$SUITE")/bin")
}

# copy ARGUMENTS: from another stage, or from this tree less what .dockerignore names.
copy() {
  local from=$ROOT words to
  read -ra words <<<"$1"
  if [[ ${words[0]} == --from=* ]]; then
    from=${ROOTS[${words[0]#--from=}]}
    words=("${words[@]:1}")
  fi
  to=${words[-1]}
  case $to in /*) ;; *) to=$WORKDIR/$to ;; esac
  to=$STAGE$to
  local source
  for source in "${words[@]::${#words[@]}-1}"; do
    if [ "$from" = "$ROOT" ]; then
      mkdir -p "$to"
      if [ -d "$ROOT/$source" ] && [ "$source" != . ]; then to=$to/; fi
      tar -C "$ROOT" -X <(sed '/^#/d;s,^,./,;p;s,^\./,,' "$ROOT/.dockerignore") -cf - "$source" |
        tar -C "$([ "$source" = . ] && printf '%s' "$to" || printf '%s' "$STAGE$WORKDIR")" --no-same-owner -xf -
    elif [ -d "$from/$source" ]; then
      mkdir -p "$to" && cp -a "$from/$source/." "$to/"
    else
      cp -a "$from/$source" "$to"
    fi
  done
}

run() {
  local environment=("${STAGE_ENV[@]}") name
  if [ -n "${QUICK-}" ]; then
    environment+=(CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0)
  fi
  for name in "${!VALUES[@]}"; do if [ -n "${VALUES[$name]}" ]; then environment+=("$name=${VALUES[$name]}"); fi; done
  inside "$STAGE" env "${environment[@]}" sh -c "cd $WORKDIR && $1" >>"$LOG" 2>&1 ||
    { tail -n 40 "$LOG" >&2; die "an instruction failed: RUN $1" "all of the output: $LOG"; }
}

remove_roots() { for root in "${ROOTS[@]}"; do remove_root "$root"; done; }

GLOBAL[PG_MAJOR]=$(suite_pg "$SUITE") GLOBAL[DEBIAN]=$SUITE
declare -A VALUES=()
STAGE='' WORKDIR=/ CMD=''
count=0
while IFS= read -r line; do
  keyword=${line%% *} rest=${line#* }
  [ -z "$STAGE" ] || say "$line"
  case $keyword in
    ARG)
      name=${rest%%=*}
      if [ -z "$STAGE" ]; then
        : "${GLOBAL[$name]:=${rest#*=}}"
      else
        VALUES[$name]=${GLOBAL[$name]-}
      fi
      ;;
    FROM)
      VALUES=()
      for name in "${!GLOBAL[@]}"; do VALUES[$name]=${GLOBAL[$name]}; done
      read -r image _ name <<<"$(expand "$rest")"
      say "FROM $image, as $SUITE"
      STAGE_ENV=() WORKDIR=/ VALUES=()
      from "$image"
      ROOTS[${name:-last}]=$STAGE
      ;;
    RUN) run "$rest" ;;
    COPY) copy "$(expand "$rest")" ;;
    ENV) read -ra pairs <<<"$(expand "$rest")" && STAGE_ENV+=("${pairs[@]}") ;;
    WORKDIR) WORKDIR=$rest && mkdir -p "$STAGE$rest" ;;
    CMD) CMD=$(sed 's/[][",]/ /g' <<<"$rest") ;;
    *) die "the Dockerfile has an instruction that is not known here: $keyword" ;;
  esac
  count=$((count + 1))
done < <(instructions)

say "the server, as: $CMD"
cp "$lib/try-image.sh" "$STAGE/root/try-image.sh"
documented "$ROOT/docs/packages.md" session "$SUITE" >"$STAGE/root/session.sql"
inside "$STAGE" env "${STAGE_ENV[@]}" bash /root/try-image.sh "$CMD" || die "the server of the image does not work" "its root is still there: $STAGE"
remove_roots
say "$count instructions were followed"
