# The distribution's packages, through apt; sourced, never run. Needs common.sh.
# Gives: apt_usable, apt_candidate, apt_install, apt_source.

# WITHOUT_APT=1: nothing is installed through apt, missing things are only named.
apt_usable() { [ "${WITHOUT_APT:-0}" = 0 ] && have apt-get; }

apt_update() {
  if [ "${APT_UPDATED:-0}" = 1 ]; then return; fi
  say "refreshing apt's package lists"
  as_root apt-get -qq update || warn "apt-get update failed; going on with the lists that are there"
  APT_UPDATED=1
}

apt_knows() {
  local candidate
  candidate=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p')
  [ -n "$candidate" ] && [ "$candidate" != '(none)' ]
}

# True if apt can install PACKAGE; refreshes the lists once before it says no.
apt_candidate() {
  if apt_knows "$1"; then return 0; fi
  apt_update
  apt_knows "$1"
}

# apt_install WHY PACKAGE...
apt_install() {
  local why=$1
  shift
  if ! apt_usable; then
    die "missing: $why (packages on Debian and Ubuntu: $*)" \
      "install them, then run this again"
  fi
  say "installing $* ($why)"
  local package
  for package in "$@"; do
    apt_candidate "$package" || die "apt knows no package $package" \
      "add a repository that has it (for PostgreSQL: https://wiki.postgresql.org/wiki/Apt), or install it by hand"
  done
  # Lists that are there may be older than the archive: one more try with fresh ones.
  apt_get_install "$@" || {
    apt_update
    apt_get_install "$@"
  } || {
    tail -n 20 "$CACHE/apt.log" >&2
    die "apt could not install $*" "run: sudo apt-get install $* (all of its output: $CACHE/apt.log)"
  }
}

apt_get_install() {
  mkdir -p "$CACHE"
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >"$CACHE/apt.log" 2>&1 </dev/null
}

# The base address of the machine's own mirror of the distribution, as apt is configured.
apt_mirror() {
  local origin=$1 uri
  uri=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk -v origin="$origin" '$1 == origin && $2 == "main" && $3 !~ /security/ { print $3; exit }')
  printf '%s' "${uri:-http://deb.debian.org/debian/}"
}

# apt_source SUITE PACKAGE DIR: downloads the source package of a Debian suite into DIR, checked
# by apt against the archive's signature. The machine's own lists and sources stay as they are.
apt_source() {
  local suite=$1 package=$2 dir=$3 keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror state
  [ -r "$keyring" ] || apt_install "the keys of the Debian archive" debian-archive-keyring
  mirror=$(apt_mirror Debian)
  state=$(mktemp -d)
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/etc" "$dir"
  printf 'deb-src [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$state/etc/sources.list"
  # A file, since hooks can only be cleared in one: the machine's own, made for its real updates,
  # have no business with a private list.
  cat >"$state/apt.conf" <<CONF
Dir::Etc::SourceList "$state/etc/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$state/lists";
Dir::Cache "$state/cache";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
  # apt's download user may not enter this private folder; the signature is what is trusted.
  if [ "$(id -u)" = 0 ]; then echo 'APT::Sandbox::User "root";' >>"$state/apt.conf"; fi
  # Whole or not at all: apt gives a file its name before it has come.
  local status=0 new
  new=$(mktemp -d "$dir/new.XXXXXX")
  (
    cd "$new"
    apt-get -qq -c "$state/apt.conf" update &&
      apt-get -qq -c "$state/apt.conf" source --download-only "$package" &&
      mv -f "$new"/* "$dir/"
  ) || status=$?
  rm -rf "$state" "$new"
  return "$status"
}
