"""The providers' own clients judge the wire format of the test server.

usage: judge.py PATH-TO-autoembed-stub [CLIENT...]

Each client embeds 1, 3 and 128 texts (fewer where its provider takes fewer), as floats and as base64, as documents and
as queries, with and without dimensions; meets a wrong key, a bad request, a missing model, rate limits and a server
that fails; and must make of each what its makers want. One line a client and check; the exit code says whether all
held.
"""

import importlib.metadata
import ipaddress
import os
import sys
import time
import traceback
import warnings

# Before the clients are loaded: they must find no key, no proxy and no home to phone.
for name in list(os.environ):
    if name.lower().endswith(("_proxy", "_api_key", "_base_url")) or name.startswith(("CO_", "OLLAMA_")):
        del os.environ[name]
os.environ.update(NO_PROXY="*", HF_HUB_OFFLINE="1", LANGSMITH_TRACING="false")
warnings.filterwarnings("ignore")

import clients  # noqa: E402
from stub import Stub  # noqa: E402


def on_loopback(event, arguments):
    """Nothing here may leave the machine."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        if not ipaddress.ip_address(arguments[1][0]).is_loopback:
            raise PermissionError(f"a client wants to connect to {arguments[1][0]}")


def main(program, *wanted):
    sys.addaudithook(on_loopback)
    known = {judge.name: judge for judge in clients.ALL}
    for name in wanted:
        if name not in known:
            sys.exit(f"there is no client {name}; there are {', '.join(known)}")
    stub = Stub(program)
    failed = total = 0
    try:
        for name in wanted or known:
            judge = known[name]
            version = importlib.metadata.version(judge.package)
            for check in judge.checks():
                what = check.__doc__.rstrip(".")
                stub.begin()
                start = time.monotonic()
                total += 1
                try:
                    said = check(judge(stub)) or ""
                    verdict = "ok"
                except Exception as error:  # Whatever a client makes of an answer is its verdict.
                    failed += 1
                    said, verdict = "", "FAILED"
                    detail = error if isinstance(error, AssertionError) else traceback.format_exc()
                    print(detail, file=sys.stderr)
                took = f"{(time.monotonic() - start) * 1000:.0f} ms"
                print(f"{name:9} {version:8} {what:76} {verdict:6} {took:>8}  {said}".rstrip(), flush=True)
    finally:
        stub.stop()
    print(f"{total - failed} of {total} checks passed")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
