# Throw-away roots of distributions; sourced, never run. Needs common.sh and apt.sh.
# Gives: suite_pg, fresh_root, inside, in_terminal, remove_root, documented.

# The PostgreSQL of a suite's own archive.
suite_pg() {
  case $1 in
    bookworm) echo 15 ;;
    trixie) echo 17 ;;
    noble) echo 16 ;;
    *) die "nothing is known of the suite $1" "use bookworm, trixie or noble" ;;
  esac
}

# fresh_root SUITE: a root with nothing but the base system, and sets FRESH_ROOT. The base is fetched once, into the cache.
fresh_root() {
  local suite=$1 base=$CACHE/roots/$1.tar
  [ "$(id -u)" = 0 ] || die "a root of another distribution can only be made by root" "run this as root"
  if [ ! -s "$base" ]; then fetch_base "$suite" "$base"; fi
  FRESH_ROOT=$(mktemp -d "${TMPDIR:-/tmp}/autoembed-root-$suite.XXXXXX")
  tar -C "$FRESH_ROOT" --numeric-owner -xpf "$base"
  chmod 755 "$FRESH_ROOT"
  cp /etc/resolv.conf "$FRESH_ROOT/etc/resolv.conf"
  # sudo looks the machine's own name up.
  printf '127.0.0.1 localhost %s\n' "$(hostname)" >"$FRESH_ROOT/etc/hosts"
}

fetch_base() {
  local suite=$1 base=$2 work options=(--variant=minbase)
  have debootstrap || apt_install "debootstrap, which makes roots" debootstrap
  local mirror script=()
  case $suite in
    noble)
      mirror=http://archive.ubuntu.com/ubuntu
      options+=(--components=main,universe)
      # An older debootstrap does not know the name yet; Ubuntu's suites are all made the same way.
      [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=(/usr/share/debootstrap/scripts/jammy)
      local keys=${UBUNTU_KEYRING:-/usr/share/keyrings/ubuntu-archive-keyring.gpg}
      [ -r "$keys" ] || die "the keys of Ubuntu's archive are not in $keys" "take them from the package ubuntu-keyring, and say where with UBUNTU_KEYRING"
      options+=("--keyring=$keys")
      ;;
    *) mirror=$(apt_mirror Debian) ;;
  esac
  say "fetching the base of $suite into $(dirname "$base"), once"
  mkdir -p "$(dirname "$base")"
  work=$(mktemp -d "$(dirname "$base")/making.XXXXXX")
  debootstrap "${options[@]}" "$suite" "$work" "$mirror" "${script[@]}" >"$base.log" 2>&1 || {
    tail -n 20 "$base.log" >&2
    die "debootstrap could not make $suite" "all of its output: $base.log"
  }
  rm -rf "$work"/var/cache/apt/archives/*.deb
  # Whole or not at all.
  tar -C "$work" --numeric-owner -cpf "$base.new" .
  mv "$base.new" "$base"
  rm -rf "$work"
}

# inside ROOT COMMAND...: in the root, with processes and mounts of its own: whatever it starts ends with it.
inside() { in_terminal "$@" </dev/null; }

# The same, for commands that are typed at.
in_terminal() {
  local root=$1
  shift
  # The script is its first argument's business: what is mounted lies in the new namespace alone.
  unshare --mount --pid --fork --kill-child bash -c '
    set -eu
    root=$1; shift
    mount --make-rprivate /
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for device in null zero full random urandom tty; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts" && ln -s pts/ptmx "$root/dev/ptmx"
    exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
  ' inside "$root" "$@"
}

remove_root() {
  case $1 in "${TMPDIR:-/tmp}"/autoembed-root-*) rm -rf --one-file-system "$1" ;; *) die "not a root of ours: $1" ;; esac
}

# documented PAGE NAME SUITE: what the fenced block after the line "<!-- tried: NAME -->" or "<!-- tried: NAME on SUITE -->" has people type: what stands behind
# "$ " in a console, and all of any other block. Nothing where there is no such block.
documented() {
  awk -v one="<!-- tried: $2 -->" -v two="<!-- tried: $2 on $3 -->" '
    $0 == one || $0 == two { wanted = 1; next }
    wanted && /^```/ { if (inside) exit; inside = 1; console = ($0 == "```console"); next }
    inside && console { if (sub(/^\$ /, "")) print; next }
    inside { print }' "$1"
}
