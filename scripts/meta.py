#!/usr/bin/env python3
"""Whether META.json is what PGXN takes (its specification 1.0.0), and whether all that names a version names the same one."""

import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
LICENCES = {
    "agpl_3", "apache_1_1", "apache_2_0", "artistic_1", "artistic_2", "bsd", "freebsd", "gfdl_1_2", "gfdl_1_3", "gpl_1", "gpl_2", "gpl_3",
    "lgpl_2_1", "lgpl_3_0", "mit", "mozilla_1_0", "mozilla_1_1", "open_source", "openssl", "perl_5", "postgresql", "qpl_1_0", "ssleay", "sun",
    "zlib", "restricted", "unrestricted", "unknown",
}
KEYS = {
    "name", "version", "abstract", "description", "maintainer", "license", "provides", "meta-spec", "generated_by", "tags", "no_index",
    "prereqs", "release_status", "resources",
}
PHASES = {"configure", "build", "test", "runtime", "develop"}
RELATIONS = {"requires", "recommends", "suggests", "conflicts"}


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def text(value):
    return isinstance(value, str) and value.strip() != ""


def term(value):
    """A name that can stand in an address, as the specification wants it."""
    return text(value) and len(value) >= 2 and not re.search(r"[\s/\\\x00-\x1f]", value)


def faults_of_spec(meta):
    for key in ("name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"):
        if key not in meta:
            yield f"{key} is missing"
    for key in meta:
        if key not in KEYS and not key.lower().startswith("x_"):
            yield f"{key} is no key of the specification"
    if not term(meta.get("name")):
        yield "name is no term"
    if not SEMVER.fullmatch(str(meta.get("version"))):
        yield "version is no semantic version"
    for key in ("abstract", "description", "generated_by"):
        if key in meta and not text(meta[key]):
            yield f"{key} is no text"
    maintainers = meta.get("maintainer")
    if not all(text(one) for one in (maintainers if isinstance(maintainers, list) and maintainers else [maintainers])):
        yield "maintainer is neither a text nor a list of texts"
    licence = meta.get("license")
    if isinstance(licence, dict):
        if not all(re.match(r"https?://", str(address)) for address in licence.values()):
            yield "license has a value that is no address"
    elif not set(licence if isinstance(licence, list) else [licence]) <= LICENCES:
        yield f"license is none that the specification knows: {licence}"
    if meta.get("release_status", "stable") not in ("stable", "testing", "unstable"):
        yield "release_status is none of stable, testing, unstable"
    spec = meta.get("meta-spec", {})
    if spec.get("version") != "1.0.0" or not re.match(r"https?://", str(spec.get("url", "https://"))):
        yield "meta-spec is not version 1.0.0"
    if not all(text(tag) and len(tag) < 256 and not re.search(r"[/\\\x00-\x1f]", tag) for tag in meta.get("tags", [])):
        yield "tags has one that is no tag"
    for phase, relations in meta.get("prereqs", {}).items():
        for relation, wanted in relations.items():
            if phase not in PHASES or relation not in RELATIONS:
                yield f"prereqs: there is no {phase}.{relation}"
            for name, version in wanted.items():
                if not term(name) or not (version in (0, "0") or SEMVER.fullmatch(re.sub(r"^[<>=!]+\s*", "", str(version)))):
                    yield f"prereqs: {name} {version} is no version"


def faults_of_provides(meta):
    provides = meta.get("provides")
    if not isinstance(provides, dict) or not provides:
        yield "provides names no extension"
        return
    for name, one in provides.items():
        for key in ("file", "version"):
            if key not in one:
                yield f"provides.{name}.{key} is missing"
        if not SEMVER.fullmatch(str(one.get("version"))):
            yield f"provides.{name}.version is no semantic version"
        for key in ("file", "docfile"):
            if key in one and not os.path.isfile(os.path.join(ROOT, one[key])):
                yield f"provides.{name}.{key}: there is no {one[key]}"


def faults_of_versions(meta):
    version = re.search(r'^version *= *"(.*)"', read("Cargo.toml"), re.M).group(1)
    told = {"META.json": meta.get("version"), "META.json, provides": meta.get("provides", {}).get("autoembed", {}).get("version")}
    locked = re.search(r'name = "autoembed"\nversion = "(.*)"', read("Cargo.lock"))
    told["Cargo.lock"] = locked and locked.group(1)
    for place, one in told.items():
        if one != version:
            yield f"{place} says version {one}, Cargo.toml {version}"
    if "default_version = '@CARGO_VERSION@'" not in read("autoembed.control"):
        yield "autoembed.control does not take its version from Cargo.toml"
    if not re.search(rf"^## \[(Unreleased\] )?{re.escape(version)}\b", read("CHANGELOG.md"), re.M):
        yield f"CHANGELOG.md has no heading for {version}"


def faults_of(meta):
    return [*faults_of_spec(meta), *faults_of_provides(meta), *faults_of_versions(meta)]


# Each takes away or spoils one thing: a check that finds nothing anywhere proves nothing.
SPOILED = (
    lambda m: m.pop("abstract"), lambda m: m.update(version="0.1"), lambda m: m.update(license="MIT"), lambda m: m.update(homepage="x"),
    lambda m: m["provides"]["autoembed"].update(file="sql/autoembed.sql"), lambda m: m["provides"]["autoembed"].pop("version"),
    lambda m: m["provides"]["autoembed"].update(version="9.9.9"), lambda m: m.update(release_status="alpha"),
    lambda m: m["prereqs"]["runtime"]["requires"].update(vector="0.8"), lambda m: m.update(maintainer=[]), lambda m: m.update({"meta-spec": {}}),
)


def main():
    meta = json.loads(read("META.json"))
    faults = faults_of(meta)
    for number, spoil in enumerate(SPOILED):
        spoiled = json.loads(json.dumps(meta))
        spoil(spoiled)
        if not faults_of(spoiled):
            faults.append(f"this check finds no fault where it must, number {number} of those that it tries on itself")
    for one in faults:
        sys.stderr.write(f"error: META.json and versions: {one}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
