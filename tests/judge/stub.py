"""The test server as the judge sees it: its program, its controls, and the vectors that it must answer with."""

import json
import math
import struct
import subprocess
import urllib.error
import urllib.request

DIMENSIONS = 24
KEY = "the-right-key"
MASK = (1 << 64) - 1


class Stub:
    """A running server. `base` is its address; formats have their paths below it."""

    def __init__(self, program):
        arguments = ["--vectors", f"hashed:{DIMENSIONS}", "--key", KEY, "--record"]
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{program} did not start: {line!r}")
        self.base = line.removeprefix("listening on ")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def call(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.base}/control/{what}", data), timeout=20) as answer:
            return json.load(answer)

    def begin(self):
        """No script, no limits, nothing counted."""
        self.call("clear", {})
        self.call("limits", {})
        self.call("reset", {})

    def status(self, code, headers=None, times=1, body=None):
        """The next requests get this status."""
        fault = {"code": code, "headers": headers or {}}
        if body:
            fault["body"] = body
        self.call("script", [{"do": {"fault": {"status": fault}}, "times": times}])

    def requests(self):
        return self.call("requests")

    def last(self):
        return self.requests()[-1]


def bits(state):
    """The next 64 random bits (splitmix64), and the state after them."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31), state


def vector(text, dimensions=DIMENSIONS):
    """What the server must answer for a text: worked out here again, so that a mistake there is not repeated."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    values = []
    while len(values) < dimensions:
        random, state = bits(state)
        values += [((half & 0xFFFFFF) * 2 + 1 - (1 << 24)) for half in (random >> 40, random >> 8)]
    values = values[:dimensions]
    length = math.sqrt(sum(value * value for value in values))
    return [struct.unpack("<f", struct.pack("<f", value / length))[0] for value in values]


def tokens(texts):
    return sum(max(1, -(-len(text.encode()) // 4)) for text in texts)
