#!/usr/bin/env python3
"""What is linked into the library, and its licences, from the sources that cargo has. No network.

  scripts/licences.py --list              docs/licences.md, on the standard output
  scripts/licences.py --notices           the full texts, for packages
  scripts/licences.py --check             whether docs/licences.md is what --list gives
"""

import glob
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "licences.md")
# The platforms and the PostgreSQL versions that there are packages for: the list is that of all of them.
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
FEATURES = ("pg15", "pg18")

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


class Trouble(Exception):
    pass


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(command[:2])} failed: {done.stderr.strip()}")
    return done.stdout


def linked():
    """(name, version) of each crate whose code ends in the library; neither those of tests nor what only runs in the compiler."""
    found = set()
    for target in TARGETS:
        for feature in FEATURES:
            tree = run("cargo", "tree", "--locked", "-p", "autoembed", "-e", "normal,no-proc-macro", "--no-default-features",
                       "--features", feature, "--target", target, "--prefix", "none", "--format", "{p}")
            for line in tree.splitlines():
                name, version = line.split()[:2]
                found.add((name, version.removeprefix("v")))
    return found


def crates():
    wanted = linked()
    packages = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
    # Without a source it is of this tree.
    found = [p for p in packages if (p["name"], p["version"]) in wanted and p["source"] is not None]
    for package in found:
        if not package["license"]:
            raise Trouble(f"{package['name']} {package['version']} names no licence")
    return sorted(found, key=lambda p: (p["name"], p["version"]))


def expression(package):
    """As SPDX writes it: a slash is the older way to say OR."""
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def page():
    found = crates()
    lines = [
        "# Licences",
        "",
        "autoembed itself is under the PostgreSQL License: see `LICENSE`. This page is made by `make licences`, and `make lint` fails where it is",
        "not up to date. The packages bring the full texts, in `THIRD-PARTY-NOTICES`.",
        "",
        "## The built-in model",
        "",
        "The files in `share/builtin` are under the Apache License 2.0. They derive from sentence-transformers/all-MiniLM-L6-v2 (Apache 2.0), and with it from",
        "Microsoft's MiniLM (MIT); the vocabulary is that of Google's bert-base-uncased (Apache 2.0). `NOTICE` there says what was changed,",
        "`LICENSE` is the text. They lie beside the model in every installation.",
        "",
        "## The Rust standard library",
        "",
        "MIT or Apache 2.0, at the user's choice; parts of it that others wrote have permissive licences as well.",
        "",
        "## Crates",
        "",
        f"{len(found)} crates are linked into the library, on Linux, for any PostgreSQL version. Where a licence says OR, either may be chosen.",
        "Which licences may come in at all is in `deny.toml`; all of them are permissive.",
        "",
        "| crate | version | licence |",
        "|---|---|---|",
    ]
    lines += [f"| {p['name']} | {p['version']} | {expression(p)} |" for p in found]
    return "\n".join(lines) + "\n"


def texts(package):
    """The licence files of a crate: (name, text)."""
    folder = os.path.dirname(package["manifest_path"])
    names = [n for n in sorted(os.listdir(folder)) if re.match(r"(?i)(un)?licen[cs]e|copying|copyright|notice", n)]
    found = []
    for name in names:
        path = os.path.join(folder, name)
        for part in sorted(glob.glob(path + "/*")) if os.path.isdir(path) else [path]:
            with open(part, encoding="utf-8", errors="replace") as file:
                found.append((os.path.relpath(part, folder), normal(file.read())))
    return found or [("", without_file(package, folder))]


def without_file(package, folder):
    """For the crates that bring no licence file: the text that their manifest names, with the authors whom it or the code names."""
    if "MIT" not in expression(package):
        raise Trouble(f"{package['name']} brings no licence text, and it is not MIT's")
    with open(os.path.join(folder, "src", "lib.rs"), encoding="utf-8") as file:
        said = [line[len("//LICENSE"):].strip() for line in file if line.startswith("//LICENSE")]
    authors = [line for line in said if "Copyright" in line] or [f"Copyright (c) {a}" for a in package["authors"]]
    if not authors:
        raise Trouble(f"{package['name']} names no author")
    return normal("MIT License\n\n" + "\n".join(authors) + "\n\n" + MIT)


def normal(text):
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip("\n").split("\n")) + "\n"


def notices():
    """Each text once, with the crates that it is for."""
    users = {}
    for package in crates():
        for name, text in texts(package):
            users.setdefault(text, []).append(f"{package['name']} {package['version']} ({expression(package)}){', ' + name if name else ''}")
    library = normal("MIT License\n\nCopyright (c) The Rust Project contributors\n\n" + MIT)
    users.setdefault(library, []).append("the Rust standard library (MIT OR Apache-2.0)")
    with open(os.path.join(ROOT, "share", "builtin", "NOTICE"), encoding="utf-8") as file:
        model = normal(file.read())
    rule = "=" * 78
    parts = ["autoembed is one library that holds code of others. What follows are their notices, each\n"
             "text under the crates that it came with.\n",
             f"{rule}\nthe built-in model (Apache-2.0; its text is below and beside the model)\n{rule}\n\n{model}"]
    for text, named in sorted(users.items(), key=lambda item: item[1]):
        parts.append(f"{rule}\n" + "\n".join(named) + f"\n{rule}\n\n{text}")
    return "\n".join(parts)


def main(arguments):
    if arguments == ["--list"]:
        sys.stdout.write(page())
    elif arguments == ["--notices"]:
        sys.stdout.write(notices())
    elif arguments == ["--check"]:
        with open(PAGE, encoding="utf-8") as file:
            if file.read() != page():
                raise Trouble("docs/licences.md is not what the crates of Cargo.lock say; write it anew with: make licences")
    else:
        sys.stderr.write(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Trouble, OSError) as trouble:
        sys.stderr.write(f"error: {trouble}\n")
        sys.exit(1)
