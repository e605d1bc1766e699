# llama.cpp's server for demo and tests, laid out as the upstream image is. Context: the folder llama-server of scripts/fetch-engine.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
COPY . /app/
WORKDIR /app
ENV LD_LIBRARY_PATH=/app
USER 65532:65532
ENTRYPOINT ["/app/llama-server"]
