# syntax=docker/dockerfile:1

# A static binary on a base with certificates, time zones and nothing to log in
# to. It runs as 65532, needs no capability and writes nowhere: read-only root
# file systems are fine. For other platforms:
#   docker buildx build --platform linux/amd64,linux/arm64 .
# Bases are pinned to a minor version; give a digest to pin them to the bit:
#   --build-arg BASE=gcr.io/distroless/static-debian12@sha256:…
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE=gcr.io/distroless/static-debian12:nonroot

# The compiler runs on the builder's own platform and cross-compiles.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY cmd ./cmd
COPY internal ./internal
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
# As `make build` does it; a test runs this very line.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags nomsgpack -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/whisp-bff ./cmd/whisp-bff

FROM ${BASE}
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.title="whisp-bff" \
      org.opencontainers.image.description="The backend that a web app needs for Whisp chat" \
      org.opencontainers.image.source="https://github.com/whisp-bff/whisp-bff" \
      org.opencontainers.image.documentation="https://github.com/whisp-bff/whisp-bff/tree/main/docs" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out/whisp-bff /whisp-bff
USER 65532:65532
EXPOSE 8080 9090
# Asks the admin listener that the configuration names. Kubernetes has probes instead.
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s --retries=3 CMD ["/whisp-bff", "healthcheck"]
ENTRYPOINT ["/whisp-bff"]
CMD ["serve", "--config", "/etc/whisp-bff/config.yaml"]
