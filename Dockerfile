# fingerpost in an image without a shell: the binary, the C library, CA certificates.
#
# Each instruction stands on one line; tests/it/image.rs reads them.

# The release of Debian is the one of the final stage, so that the C library is the same.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin fingerpost

# `cc`, since a Rust binary needs libgcc for unwinding beside the C library.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /src/target/release/fingerpost /usr/local/bin/fingerpost
USER 65534:65534
EXPOSE 8653/udp
EXPOSE 8653/tcp
EXPOSE 8654/tcp
ENTRYPOINT ["/usr/local/bin/fingerpost"]
# A container's loopback is its own: on the default addresses nobody would reach it.
CMD ["serve", "--dns", "0.0.0.0:8653", "--admin", "0.0.0.0:8654"]
