#!/usr/bin/env python3
"""Types what a page shows into terminals, line by line, and compares what is seen with the page. Used by try-start.sh.

  typed.py PAGE [--leave START]... [--moved SQL] [--limit SECONDS] -- SHELL...

Typed is what stands behind `$ ` (into SHELL) and behind `app=# ` (into the psql that a command before it has opened). A statement answers what the page shows; a
command ends with 0, and answers what the page shows if it shows anything. A question that ends in [Y/n] is answered with Return. What comes behind `$ ` while psql is
open is typed into a second terminal.

  --leave START    commands that begin so are not typed; one that matches none is a mistake
  --moved SQL      typed into the second terminal's psql once there is the extension
  --limit SECONDS  how long all of it may take
"""

import argparse
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

# Prompts, at the end of what is seen. The shell's tells how the last command ended.
SHELL = re.compile(r"(?:^|\n)\[(\d+)\]\$ $")
PSQL = re.compile(r"(?:^|\n)app=# $")
MORE = re.compile(r"(?:^|\n)app-# $")
QUESTION = re.compile(r"\[Y/n\] ?$")
# What moves the cursor, or colours.
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-_])")
# What the page calls a moment.
MOMENT = "A moment later"
PATIENCE = 30


class Differs(Exception):
    """What is seen is not what the page says."""


class Terminal:
    """A shell in a terminal."""

    def __init__(self, command, deadline):
        self.deadline = deadline
        self.seen = ""
        pid, self.screen = pty.fork()
        if pid == 0:
            os.environ.update(TERM="dumb")
            os.execvp(command[0], command)
        # So wide that nothing is wrapped.
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 1000, 0, 0))
        self.until(SHELL)
        self.in_psql = False

    def until(self, *ends):
        """What is seen up to the first of the ends, and its match."""
        while True:
            for end in ends:
                match = end.search(self.seen)
                if match:
                    seen, self.seen = self.seen, ""
                    return seen[:match.start()], match
            why = "the terminal was closed"
            try:
                if select.select([self.screen], [], [], max(self.deadline - time.monotonic(), 0))[0]:
                    data = os.read(self.screen, 65536)
                else:
                    data, why = b"", "the time is up"
            except OSError:
                data = b""
            if not data:
                raise Differs(f"{why}, with this on the screen:\n{self.seen[-3000:]}")
            self.seen = ESCAPES.sub("", (self.seen + data.decode(errors="replace")).replace("\r", ""))

    def type(self, line, *ends):
        """Types a line; what is seen after it, and which end came."""
        os.write(self.screen, (line + "\n").encode())
        seen, match = self.until(*ends)
        while match.re is QUESTION:
            os.write(self.screen, b"\n")
            more, match = self.until(*ends)
            seen += more
        # The terminal shows what is typed.
        if not seen.startswith(line):
            raise Differs(f"typed was {line!r}, and the screen shows {seen!r}")
        return seen[len(line):], match

    def command(self, line):
        seen, match = self.type(line, SHELL, PSQL, QUESTION)
        self.in_psql = match.re is PSQL
        if not self.in_psql and match.group(1) != "0":
            raise Differs(f"it ended with {match.group(1)}:\n{seen}")
        return seen

    def statement(self, text):
        lines = text.split("\n")
        for line in lines[:-1]:
            self.type(line, MORE)
        return self.type(lines[-1], PSQL)[0]


class Typed:
    """One thing that the page has people type."""

    def __init__(self, line, text, is_statement, moment):
        self.line, self.text, self.is_statement, self.moment = line, text, is_statement, moment
        self.answer = []


def read(path):
    """What a page has people type, in its order."""
    found, inside, prose = [], False, ""
    with open(path, encoding="utf-8") as page:
        for number, line in enumerate(page, 1):
            line = line.rstrip("\n")
            if line.startswith("```"):
                inside = not inside
                console = line == "```console"
                session = line == "```"
                last = None
            elif not inside:
                prose = line or prose
            elif console and line.startswith("$ ") or session and line.startswith("app=# "):
                last = Typed(number, line.split(" ", 1)[1], session, prose.startswith(MOMENT))
                found.append(last)
            elif last and session and line.startswith("app-# "):
                last.text += "\n" + line[len("app-# "):]
            elif last:
                last.answer.append(line)
    return found


def plain(lines):
    """Without blanks at the ends of lines, and empty lines at the end of all."""
    lines = [line.rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def compare(typed, seen):
    answer, wanted = plain(seen.lstrip("\n").split("\n")), plain(typed.answer)
    if (typed.is_statement or wanted) and answer != wanted:
        raise Differs("it answers\n" + "\n".join(answer) + "\nand the page says\n" + "\n".join(wanted))


def answer(terminal, typed):
    """Types a statement, until it answers what the page says where that takes a moment."""
    patience = time.monotonic() + (PATIENCE if typed.moment else 0)
    while True:
        seen = terminal.statement(typed.text)
        try:
            return compare(typed, seen)
        except Differs:
            if time.monotonic() > patience:
                raise
            time.sleep(0.2)


def play(arguments):
    began = time.monotonic()
    shell = arguments.shell
    terminal = Terminal(shell, began + arguments.limit)
    second = None
    left, counts = set(), [0, 0]
    for typed in read(arguments.page):
        start = next((start for start in arguments.leave if not typed.is_statement and typed.text.startswith(start)), None)
        if start:
            left.add(start)
            print(f"    left out: {typed.text}")
            continue
        before = time.monotonic()
        try:
            if typed.is_statement:
                if not terminal.in_psql:
                    raise Differs("no psql is open")
                answer(terminal, typed)
                if arguments.moved and typed.text.startswith("CREATE EXTENSION"):
                    second = second or Terminal(shell, terminal.deadline)
                    second.command(f'sudo -u postgres psql -qd app -c "{arguments.moved}"')
            elif terminal.in_psql:
                second = second or Terminal(shell, terminal.deadline)
                compare(typed, second.command(typed.text))
            else:
                compare(typed, terminal.command(typed.text))
        except Differs as differs:
            sys.exit(f"error: {os.path.basename(arguments.page)}, line {typed.line}: {typed.text}\n{differs}")
        counts[typed.is_statement] += 1
        prompt = "app=#" if typed.is_statement else "$"
        print(f"    {time.monotonic() - before:6.2f} s  {prompt} {typed.text.splitlines()[0]}", flush=True)
    for start in set(arguments.leave) - left:
        sys.exit(f"error: the page has no command that begins with {start!r}")
    print(f"    {counts[0]} commands and {counts[1]} statements, each answered as the page says, in {time.monotonic() - began:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page")
    parser.add_argument("--leave", action="append", default=[])
    parser.add_argument("--moved")
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("shell", nargs="+")
    play(parser.parse_args())


if __name__ == "__main__":
    main()
