# Triton 26.07 with chosen parts, written by falconry/image/compose.py.

# FULL is mirror.example/triton:full@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
# MINIMUM is mirror.example/triton@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
# Both are given by digest.
ARG FULL
ARG MINIMUM

FROM ${FULL} AS full

FROM ${MINIMUM} AS packages
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        python3 \
        python3-pip \
        python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY certificates/ /certificates/
COPY requirements.txt /
COPY server/ /opt/falconry/server/
RUN if [ -f /certificates/ca.crt ]; then export PIP_CERT=/certificates/ca.crt; fi \
    && python3 -m venv /opt/falconry/venv \
    && /opt/falconry/venv/bin/python -m pip install --disable-pip-version-check --no-cache-dir --no-compile --no-deps --require-hashes --requirement /requirements.txt \
    && cd /opt/falconry/server \
    && /opt/falconry/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/falconry/venv/lib . \
    && /opt/falconry/venv/bin/python -E -c 'import sys; sys.path.insert(0, "."); import front'

FROM ${MINIMUM}
ENV PATH=/opt/tritonserver/bin:${PATH}
ENV TRITON_SERVER_GPU_ENABLED=1
ENV TCMALLOC_RELEASE_RATE=200
ENV UCX_MEM_EVENTS=no
ENV LD_LIBRARY_PATH=/opt/hpcx/ucc/lib/:/opt/hpcx/ucx/lib/:${LD_LIBRARY_PATH}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        curl \
        libb64-0d \
        libcurl4-openssl-dev \
        libgomp1 \
        libgoogle-perftools-dev \
        libjemalloc-dev \
        libnuma-dev \
        python3 \
    && rm -rf /var/lib/apt/lists/*

COPY --from=packages /opt/falconry/ /opt/falconry/

COPY --from=full /usr/lib/*-linux-gnu/libdcgm*.so* /usr/local/lib/
RUN ldconfig

RUN rm -rf /opt/tritonserver/*
WORKDIR /opt/tritonserver
COPY --from=full /opt/tritonserver/LICENSE /opt/tritonserver/TRITON_VERSION /opt/tritonserver/NVIDIA_Deep_Learning_Container_License.pdf ./
COPY --from=full /opt/tritonserver/bin/ bin/
COPY --from=full /opt/tritonserver/lib/ lib/
COPY --from=full /opt/tritonserver/include/ include/
COPY --from=full /opt/tritonserver/backends/pytorch/ backends/pytorch/
COPY --from=full /opt/tritonserver/backends/tensorrt/ backends/tensorrt/

ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=15m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "--noproxy", "*", "http://127.0.0.1:8000/v2/health/ready"]
ENTRYPOINT ["/opt/falconry/venv/bin/python", "/opt/falconry/server/entrypoint.py"]
CMD ["tritonserver", "--model-repository=/opt/ds/model/deployed_model/model_repository"]
