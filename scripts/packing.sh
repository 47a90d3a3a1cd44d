#!/usr/bin/env bash
# What package.sh does in its stages; a script of its own, since a command that fails must end it.
#
#   scripts/packing.sh pack BUILT    what was built in BUILT, as packages in target/packages
#   scripts/packing.sh check BUILT   whether they are as they should be
#   scripts/packing.sh again BUILT   whether packing again gives the same bytes
. "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh" apt tree deb packed

built=$2
out=$TARGET/packages
work=$out/work-pg$PG
trap 'rm -rf "$work"' EXIT

# pack DIR WORK: both packages into DIR, by way of the folder WORK.
pack() {
  local name
  name=$(package_name)
  mkdir -p "$1"
  release_tree "$built" "$2/$name"
  tar_gz "$2/$name" "$1/$name.tar.gz"
  if have dpkg-deb; then make_deb "$2/$name" "$2/deb" "$1/$(deb_name)"; fi
}

# What is packed a second time, at another place of the globe and by another user's habits, has the same bytes.
pack_again() {
  local file
  (
    umask 077
    export TZ=Pacific/Auckland LC_ALL=C
    pack "$work/again" "$work/elsewhere"
  )
  for file in "$work"/again/*; do
    cmp "$file" "$out/$(basename "$file")" || fault "$(basename "$file") has other bytes when it is packed again"
  done
  no_faults
}

check() {
  local tarball
  tarball=$out/$(package_name).tar.gz
  check_tarball "$tarball"
  if have dpkg-deb; then check_deb "$out/$(deb_name)" "$tarball"; fi
  no_faults
}

case $1 in
  pack)
    pack "$out" "$work"
    names=("$(package_name).tar.gz")
    if have dpkg-deb; then names+=("$(deb_name)"); fi
    cd "$out"
    sha256sum "${names[@]}" >"SHA256SUMS-pg$PG"
    ;;
  check) check ;;
  again) pack_again ;;
  *) die "unknown: $1" "use pack, check or again" ;;
esac
