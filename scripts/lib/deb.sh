# A Debian package of a release; sourced, never run. Needs common.sh, apt.sh, package.sh, tree.sh.
# Gives: ensure_deb_tools, deb_name, make_deb.

# The revision of the packaging; it grows where the same version of the extension is packaged anew.
DEB_REVISION=1

deb_package() { printf 'postgresql-%s-autoembed' "$PG"; }
deb_version() { printf '%s-%s' "$(package_version)" "$DEB_REVISION"; }
deb_name() { printf '%s_%s_%s.deb' "$(deb_package)" "$(deb_version)" "$(dpkg --print-architecture)"; }

ensure_deb_tools() { have dpkg-shlibdeps || apt_install "the tools that make Debian packages" dpkg-dev; }

# make_deb TREE DIR FILE: the package of the release in TREE, by way of the folder DIR. The places are Debian's, whichever server
# it was built with: a library fits every server of its major.
make_deb() {
  local tree=$1 out=$2 file=$3 doc lib share
  doc=$out/usr/share/doc/$(deb_package)
  lib=$out/usr/lib/postgresql/$PG/lib
  share=$out/usr/share/postgresql/$PG
  rm -rf "$out"
  mkdir -p "$out/DEBIAN" "$doc" "$lib" "$share"
  cp "$tree/lib/autoembed.so" "$lib/"
  cp -R "$tree/share"/. "$share/"
  cp -R "$tree/README.md" "$tree/docs" "$tree/examples" "$doc/"
  gzip -9n <"$tree/CHANGELOG.md" >"$doc/changelog.gz"
  gzip -9n <"$tree/THIRD-PARTY-NOTICES" >"$doc/THIRD-PARTY-NOTICES.gz"
  deb_changelog | gzip -9n >"$doc/changelog.Debian.gz"
  deb_copyright >"$doc/copyright"
  deb_overrides "$out"
  deb_scripts "$out"
  find "$out" -type d -exec chmod 755 {} +
  find "$out" -path "$out/DEBIAN" -prune -o -type f -exec chmod 644 {} +
  deb_control "$out" >"$out/DEBIAN/control"
  (cd "$out" && find usr -type f | LC_ALL=C sort | xargs -d '\n' md5sum) >"$out/DEBIAN/md5sums"
  chmod 644 "$out/DEBIAN/control" "$out/DEBIAN/md5sums"
  same_time "$out"
  # dpkg-deb sorts the members, and takes times from this variable where they are later.
  SOURCE_DATE_EPOCH=$(commit_time) dpkg-deb --root-owner-group -Zxz --build "$out" "$file"
}

# Who answers for a package is who builds it, as DEBFULLNAME and DEBEMAIL say for all of Debian's tools.
deb_maintainer() { printf '%s <%s>' "${DEBFULLNAME:-The autoembed authors}" "${DEBEMAIL:-autoembed@noreply.invalid}"; }

# Debian 12 has no package of pgvector, and one may have built it: there it is recommended, which apt takes where it can. From 17 on
# every archive that has the server has pgvector as well.
deb_relations() {
  local libraries=$1
  if [ "$PG" -ge 17 ]; then
    printf 'Depends: postgresql-%s, postgresql-%s-pgvector, %s\n' "$PG" "$PG" "$libraries"
  else
    printf 'Depends: postgresql-%s, %s\nRecommends: postgresql-%s-pgvector\n' "$PG" "$libraries" "$PG"
  fi
}

# The libraries that the linker bound, with the oldest versions that have the symbols in use. What the server itself gives is not found, rightly.
deb_libraries() {
  local out=$1 work found
  work=$(mktemp -d)
  mkdir "$work/debian"
  printf 'Source: autoembed\n\nPackage: %s\nArchitecture: any\nDescription: x\n' "$(deb_package)" >"$work/debian/control"
  found=$(cd "$work" && dpkg-shlibdeps -O --warnings=0 "-e$out/usr/lib/postgresql/$PG/lib/autoembed.so" | sed -n 's/^shlibs:Depends=//p')
  rm -rf "$work"
  [ -n "$found" ] || die "dpkg-shlibdeps names no library that autoembed.so needs" "see its messages above"
  printf '%s' "$found"
}

deb_control() {
  local out=$1 libraries
  libraries=$(deb_libraries "$out")
  cat <<CONTROL
Package: $(deb_package)
Source: autoembed
Version: $(deb_version)
Architecture: $(dpkg --print-architecture)
Maintainer: $(deb_maintainer)
Installed-Size: $(deb_size "$out")
$(deb_relations "$libraries")
Section: database
Priority: optional
Description: embeddings that keep in step with the text of a table
 autoembed keeps a pgvector column of a PostgreSQL table in step with the text
 beside it. A changed row is queued in its own transaction; a background worker
 inside the server calls an embedding model in batches, with retries, and writes
 the vector into the same row.
 .
 A small model comes with it and needs no key and no network; others are reached
 over HTTP. Searches by meaning are SQL functions.
 .
 This package is for PostgreSQL $PG.
CONTROL
}

# As dpkg-gencontrol counts, in KiB: files rounded up, one for each folder. Not by du, whose figure depends on the file system.
deb_size() {
  (cd "$1" && find usr -printf '%y %s\n' | awk '{ kib += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print kib + 0 }')
}

deb_changelog() {
  cat <<CHANGELOG
autoembed ($(deb_version)) unstable; urgency=medium

  * Version $(package_version); what changed is in changelog.gz.

 -- $(deb_maintainer)  $(LC_ALL=C date -u -R -d "@$(commit_time)")
CHANGELOG
}

deb_copyright() {
  cat <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: autoembed
Comment:
 The library holds code of other projects, all of it under permissive licences.
 They are listed in docs/licences.md beside this file, and the full texts of
 their licences are in THIRD-PARTY-NOTICES.gz.

Files: *
Copyright: 2026 The autoembed authors
License: PostgreSQL

Files: share/builtin/*
Copyright: the authors of sentence-transformers/all-MiniLM-L6-v2, Microsoft, Google
License: Apache-2.0

License: PostgreSQL
$(sed -n '/^Permission to use/,/^UPDATES, ENH/p' "$ROOT/LICENSE" | sed 's/^$/./; s/^/ /')

License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
}

# The model's licence stays beside the model, as that licence asks for.
deb_overrides() {
  local dir=$1/usr/share/lintian/overrides
  mkdir -p "$dir"
  cat >"$dir/$(deb_package)" <<OVERRIDES
$(deb_package): extra-license-file [usr/share/postgresql/$PG/autoembed/builtin/LICENSE]
# There is no request for packaging of which this could be the answer.
$(deb_package): initial-upload-closes-no-bugs
OVERRIDES
}

deb_scripts() {
  local script
  for script in postinst prerm; do
    sed "s/@PG@/$PG/g; s/@PACKAGE@/$(deb_package)/g" "$ROOT/scripts/packaged/$script" >"$1/DEBIAN/$script"
    chmod 755 "$1/DEBIAN/$script"
  done
}
