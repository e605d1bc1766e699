# The two images of inference-operator: `docker build --target controller .` and `docker build --target runtime .`
#
# The base follows a tag here. For a release, pin it by digest:
#   --build-arg BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:...    (docker buildx imagetools inspect gcr.io/distroless/cc-debian12:nonroot)
#
# Without a registry (scripts/build-images does this, the tests use its images):
#   --build-context binaries=FOLDER   takes programs that scripts/build-binaries built, instead of the stage of that name
#   --build-arg BASE=IMAGE            takes any base with glibc and CA certificates
ARG RUST=docker.io/library/rust:1.95-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST} AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY scripts scripts
ENV INFERENCE_OPERATOR_CACHE=/cache
RUN --mount=type=cache,target=/cache --mount=type=cache,target=/usr/local/cargo/registry \
    mkdir /out && folder="$(scripts/build-binaries)" && cp "$folder"/* /out/

FROM scratch AS binaries
COPY --from=build /out/ /

FROM ${BASE} AS controller
COPY --from=binaries /inference-controller /inference-controller
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/inference-controller"]

# Serves by itself where no engine is needed; beside an engine it copies itself into the engine's container (`install DIR`).
FROM ${BASE} AS runtime
COPY --from=binaries /inference-runtime /inference-runtime
USER 65532:65532
EXPOSE 8000 9000
ENTRYPOINT ["/inference-runtime"]
