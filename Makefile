# The few verbs people use; each does its own set-up. The work is in scripts/.
#
#   PG=17                     the PostgreSQL major to build for (15 to 18; default: the newest that is there)
#   PG_CONFIG=/path/pg_config  the very server to build for and install into
#   PG_ALSO=17                for test: the core of the tests on this version as well
#   PGS='15 17' CORE=1        for matrix: these versions; the core of the tests alone
#   VERBOSE=1                 show all output of the stages
#   SECONDS=600               how long to fuzz, to break things, or to soak
#   ONLY=drain,search        what to measure (bench and bench-quick): ceiling, overhead, drain, freshness, backfill,
#                             trouble, search, builtin, growth
#   SEED=7 MIX=kills,api      for chaos: a plan that was had before; what is done, of kills, restarts, api, locks, ddl, vacuum

export PG PG_CONFIG PG_ALSO PGS VERBOSE
.DEFAULT_GOAL := help
.PHONY: help setup demo test matrix fuzz chaos soak quality bench bench-quick mutants judge real bench-core bench-compare install package check-docs freeze all dist reproducible try-package try-start try-dockerfile licences clients fmt lint clean
# Every verb uses the whole machine by itself, and they share one target directory.
.NOTPARALLEL:

help: ## list the verbs
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1 | \2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r verb what; do printf '%-22s%s\n' "$$verb" "$$what"; done
	@echo "  PG=17 or PG_CONFIG=/path/to/pg_config choose the server, as in: make test PG=17"

setup: ## find or install what is needed: PostgreSQL with headers, pgvector, cargo-pgrx
	@scripts/setup.sh

demo: ## a private server, 200 messages embedded and searched; nothing is left running
	@scripts/demo.sh

test: ## every check and every test
	@scripts/test.sh

matrix: ## every test on each PostgreSQL from 15 to 18 that can be had, an hour or two
	@scripts/matrix.sh $(if $(CORE),core)

fuzz: ## hostile answers for a minute, or for SECONDS
	@scripts/fuzz.sh $(SECONDS)

chaos: ## clients write for ten minutes, or SECONDS, while everything breaks; then every row is checked
	@scripts/chaos.sh "$(SECONDS)" "$(SEED)" "$(MIX)"

mutants: ## mechanisms are taken out one by one, and the tests of their guarantees must fail
	@scripts/mutants.sh "$(NAME)"

soak: ## the highest steady load for twenty minutes, or SECONDS; memory, queue and latency must stay flat
	@scripts/soak.sh "$(SECONDS)"

quality: ## how well vectors, full text and both together find what is asked for; SETS='everyday chat' or files
	@scripts/quality.sh $(SETS)

bench: ## how fast it is, each figure against its limit, in half an hour; all of it goes into docs/performance.md
	@scripts/bench.sh full "$(ONLY)"

bench-quick: ## the same at smaller sizes, in five minutes; into target/bench
	@scripts/bench.sh quick "$(ONLY)"

judge: ## the test server judged by the providers' own clients from PyPI
	@scripts/judge.sh

real: ## the extension with servers that nobody here wrote: llama.cpp's, and a LiteLLM proxy
	@scripts/real.sh

clients: ## the programs of docs/clients.md, in SQL, Python, JavaScript and Rust
	@scripts/clients.sh

bench-core: ## instructions that the hot paths outside of Postgres take, counted by valgrind
	@scripts/bench-core.sh

bench-compare: ## the same at the revision REV and now; fails where a path takes over 2 % more
	@scripts/bench-compare.sh "$(REV)"

# What PGXN's client calls before it installs.
all:
	@scripts/build.sh

install: ## build and install into the server that PG_CONFIG names
	@scripts/install.sh

package: ## a tarball and a .deb of the release build, in target/packages
	@scripts/package.sh

freeze: ## cut a version: keep the install script of VERSION, as REV (HEAD) makes it; AGAIN=1 before it has its tag
	@scripts/freeze.sh $(VERSION) $(REV) $(if $(AGAIN),--again)

dist: ## the sources, as a zip for PGXN and as a tarball, in target/packages
	@scripts/dist.sh

reproducible: ## the packages built twice, at different places: every byte must be the same
	@scripts/reproducible.sh

try-package: ## the .deb DEB in fresh roots of Debian: installed, used, removed; SUITE=noble for Ubuntu 24.04
	@scripts/try-package.sh "$(DEB)" $(SUITE)

try-start: ## docs/getting-started.md typed word for word in a fresh Debian 13, with the .deb DEB; under five minutes
	@scripts/try-start.sh "$(DEB)"

try-dockerfile: ## the Dockerfile followed without Docker, in roots of Debian 13
	@scripts/try-dockerfile.sh

licences: ## docs/licences.md anew, from Cargo.lock
	@scripts/licences.py --list >docs/licences.md.new && mv docs/licences.md.new docs/licences.md

fmt: ## format the code
	@cargo fmt --all

lint: ## format, clippy, documentation, licences: the checks alone
	@scripts/lint.sh

check-docs: ## links, anchors and pictures of the documentation, who runs its code, and what it names
	@scripts/check-docs.sh

clean: ## remove builds and private servers; downloaded tools stay in the cache
	@scripts/clean.sh
