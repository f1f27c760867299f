# Triton 25.10 with chosen parts, written by falconry/image/compose.py.

FROM nvcr.io/nvidia/tritonserver:25.10-py3 AS full

FROM nvcr.io/nvidia/tritonserver:25.10-py3-min

ENV PATH=/opt/tritonserver/bin:${PATH}
ENV TRITON_SERVER_GPU_ENABLED=1
ENV TCMALLOC_RELEASE_RATE=200
ENV UCX_MEM_EVENTS=no

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        curl \
        libarchive-dev \
        libb64-0d \
        libcurl4-openssl-dev \
        libgomp1 \
        libgoogle-perftools-dev \
        libjemalloc-dev \
        libnuma-dev \
        libpython3-dev \
        python3 \
        python3-pip \
    && rm -rf /var/lib/apt/lists/*
RUN PIP_BREAK_SYSTEM_PACKAGES=1 pip3 install --no-cache-dir "numpy<2"

RUN rm -rf /opt/tritonserver/* \
    && (getent passwd 1000 > /dev/null || useradd --uid 1000 --user-group --no-create-home triton-server)

COPY --from=full /usr/lib/*-linux-gnu/libdcgm*.so* /usr/local/lib/
RUN ldconfig

WORKDIR /opt/tritonserver
COPY --from=full /opt/tritonserver/LICENSE /opt/tritonserver/TRITON_VERSION /opt/tritonserver/NVIDIA_Deep_Learning_Container_License.pdf ./
COPY --from=full /opt/tritonserver/bin/ bin/
COPY --from=full /opt/tritonserver/lib/ lib/
COPY --from=full /opt/tritonserver/include/ include/
COPY --from=full /opt/tritonserver/backends/onnxruntime/ backends/onnxruntime/
COPY --from=full /opt/tritonserver/backends/python/ backends/python/
COPY --from=full /opt/tritonserver/repoagents/checksum/ repoagents/checksum/
COPY --from=full /opt/tritonserver/caches/local/ caches/local/

COPY server/ /opt/falconry/server/
USER 1000:1000
ENTRYPOINT ["python3", "/opt/falconry/server/entrypoint.py"]
