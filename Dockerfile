# PostgreSQL with pgvector and autoembed, on the official image of postgres.
#
#   docker build -t autoembed .                             PostgreSQL 17
#   docker build -t autoembed:18 --build-arg PG_MAJOR=18 .  another one, of 15 to 18
#
# The image is used as the official one is; docs/packages.md has the commands.
ARG PG_MAJOR=17
# Both stages have the same base: the library needs the C library of the one that it was built in, or a later one.
ARG DEBIAN=bookworm
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS rust

FROM postgres:${PG_MAJOR}-${DEBIAN} AS build
ARG PG_MAJOR
RUN apt-get update && apt-get install -y --no-install-recommends \
    gcc libc6-dev make pkg-config clang libclang-dev libssl-dev python3 dpkg-dev ca-certificates \
    postgresql-server-dev-${PG_MAJOR} postgresql-${PG_MAJOR}-pgvector
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN rustup component add rustfmt
WORKDIR /autoembed
# cargo-pgrx first, which takes minutes and changes seldom.
COPY Cargo.toml ./
COPY scripts scripts
RUN scripts/setup.sh --without-apt
COPY . .
# The time that files bear in the package, as docker build --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) gives it.
ARG SOURCE_DATE_EPOCH
RUN make package PG=${PG_MAJOR} VERBOSE=1 && mv target/packages/*.deb /autoembed.deb

FROM postgres:${PG_MAJOR}-${DEBIAN}
ARG PG_MAJOR
COPY --from=build /autoembed.deb /tmp/autoembed.deb
RUN apt-get update && apt-get install -y /tmp/autoembed.deb postgresql-${PG_MAJOR}-pgvector && \
    rm -rf /tmp/autoembed.deb /var/lib/apt/lists/*
# Work goes on by itself after a restart of the server. Arguments of `docker run` take the place of this line.
CMD ["postgres", "-c", "shared_preload_libraries=autoembed"]
