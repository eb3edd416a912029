# The server on CPUs: Python, ONNX Runtime and the models of models/. No shell, compiler or package manager.
# Build: make image
# Without make: docker build --file deploy/images/server.Dockerfile --tag pixelserve-server .
ARG BASE=debian:trixie-slim
# A file of requirements/. image-s3.txt and image-gcs.txt add S3 and Google Cloud Storage to `pixelserve models pull`.
ARG REQUIREMENTS=image.txt

# The build stage is the same in all three Dockerfiles; a test compares them.
# hadolint cannot see that BASE has a tag; `make image` adds the digest.
# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /build
# No versions: Debian's mirrors delete old ones, so a pinned version would stop building within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 netbase python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv tools \
    && python3 -m venv --without-pip /opt/pixelserve
COPY deploy/images/assemble.py .
RUN python3 assemble.py /rootfs

ARG REQUIREMENTS
COPY requirements/ requirements/
# Both secrets are optional: pip's configuration and the CA certificates of a machine behind a mirror or a proxy.
# Removed, because nothing here loads it: tests, type stubs, headers, and ONNX Runtime's library for C++ programs.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    tools/bin/pip install --no-cache-dir --require-hashes --requirement requirements/build.txt \
    && tools/bin/pip --python /opt/pixelserve/bin/python install --no-cache-dir --no-compile --require-hashes \
        --requirement "requirements/${REQUIREMENTS}" \
    && find /opt/pixelserve \( -name tests -o -name '*.pyi' -o -name 'libonnxruntime.so*' \
        -o -path '*/onnxruntime/transformers' -o -path '*/tensorflow/include' \) -prune -exec rm -r {} + \
    && find /opt/pixelserve/bin -type f -delete \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x pygments/lexers /opt/pixelserve/lib

COPY pyproject.toml README.md LICENSE ./
COPY pixelserve/ pixelserve/
COPY server/ server/
COPY training/ training/
# --root keeps the project out of its dependencies' layer, which a new version then shares with the old one.
# SOURCE_DATE_EPOCH: pip records the wheel's hash, which its files' times would change in every build.
RUN SOURCE_DATE_EPOCH=315532800 tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && tools/bin/pip --python /opt/pixelserve/bin/python install --no-deps --no-index --no-compile --root /project \
        dist/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /project -p / /project

FROM scratch
COPY --from=build /rootfs/ /
COPY --from=build /opt/pixelserve/ /opt/pixelserve/
COPY --from=build /project/ /
COPY deploy/images/healthcheck.py LICENSE /opt/pixelserve/
COPY examples/mnist/ /opt/pixelserve/examples/mnist/
COPY models/ /models/
ENV LANG=C.UTF-8 \
    PATH=/opt/pixelserve/bin \
    PIXELSERVE_HOST=0.0.0.0 \
    PIXELSERVE_MODEL_REPOSITORY=/models
USER 65532:65532
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/pixelserve/healthcheck.py"]
ENTRYPOINT ["pixelserve"]
CMD ["serve"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="PixelServe server" \
    org.opencontainers.image.description="Serves ONNX image classifiers over gRPC and HTTP, on CPUs" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
