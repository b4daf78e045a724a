# syntax=docker/dockerfile:1
# filmgate's image, for amd64 and arm64; docs/image.md says how to build and load it.
#
# Debian 12, since NVIDIA's driver library, which the agent opens, needs the GNU C library, and one
# that is not too new runs everywhere. By tag: pin the digest that your registry shows for it.
ARG RUST_VERSION=1.95.0
FROM docker.io/library/rust:${RUST_VERSION}-slim-bookworm AS build
ARG RUST_VERSION
ARG TARGETPLATFORM
# What is in the image; rust-toolchain.toml would have tools for developers downloaded.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=filmgate-$TARGETPLATFORM,sharing=locked \
    tools/rootfs.sh "$(tools/build.sh)" /rootfs

# From scratch: the program, the C library, root certificates and two users. What is not there (a
# shell, a package manager) needs no update.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="filmgate" \
      org.opencontainers.image.description="GPU sharing on Kubernetes decided by measured VRAM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs/ /
USER 65532:65532
ENTRYPOINT ["/usr/bin/filmgate"]
