# The GPU server image: NVIDIA's Triton with its TensorRT-LLM backend, the front and the entrypoint
# (docker/server). No engine, no tokenizer and no credential: those come with the artifact.
#
# Written from documentation and not yet built on NVIDIA's image, which has 16 GB; the tests build it
# on a stand-in. BASE is the toolchain's image by its digest (engine/toolchains.toml). The context is
# that of triton-cpu.Dockerfile with the rows that triton-trtllm.packages names.
ARG BASE

FROM ${BASE} AS build
# hadolint ignore=DL3002  # the stage is left behind; the image ends with USER 1000
USER 0
COPY certificates/ /certificates/
COPY requirements.txt /
COPY server/ /opt/falconry/server/
# The front's packages stay apart from those that NVIDIA's were tested with. The image's own pip
# installs them: Ubuntu's Python has none to put into a new environment. -E: whatever the image's
# PYTHONPATH names, the front must not find.
RUN python3 -m venv --without-pip /opt/falconry/venv \
    && if [ -f /certificates/ca.crt ]; then export PIP_CERT=/certificates/ca.crt; fi \
    && python3 -m pip --python /opt/falconry/venv/bin/python install \
        --disable-pip-version-check --no-cache-dir --no-compile --no-deps --require-hashes \
        --requirement /requirements.txt \
    && cd /opt/falconry/server \
    && /opt/falconry/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/falconry/venv/lib . \
    && /opt/falconry/venv/bin/python -E -c \
        'import sys; sys.path.insert(0, "."); import front, tritonclient.utils'

FROM ${BASE}
USER 0
# Oracle's service runs the health check inside the container with curl.
RUN command -v curl \
    || { apt-get update \
        && apt-get install --yes --no-install-recommends curl \
        && apt-get clean \
        && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/falconry/ /opt/falconry/
# The user triton-server of NVIDIA's images (triton-inference-server/server, build.py) has no home;
# what the backend's libraries cache goes where a read-only container can write.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
EXPOSE 8000
# Interval, timeout and retries are of Oracle's local-test example, the start period of its Triton
# sample (oracle-samples/oci-data-science-ai-samples).
HEALTHCHECK --interval=30s --timeout=3s --start-period=15m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "--noproxy", "*", \
        "http://127.0.0.1:8000/v2/health/ready"]
ENTRYPOINT ["/opt/falconry/venv/bin/python", "/opt/falconry/server/entrypoint.py"]
CMD ["tritonserver", "--model-repository=/opt/ds/model/deployed_model/model_repository"]
