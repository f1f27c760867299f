# Triton 23.10 with chosen parts, written by falconry/image/compose.py.

FROM nvcr.io/nvidia/tritonserver:23.10-py3 AS full

FROM nvcr.io/nvidia/tritonserver:23.10-py3-min

ENV PATH=/opt/tritonserver/bin:${PATH}
ENV TRITON_SERVER_GPU_ENABLED=1
ENV TCMALLOC_RELEASE_RATE=200
ENV UCX_MEM_EVENTS=no
ENV LD_LIBRARY_PATH=/opt/tritonserver/backends/onnxruntime:${LD_LIBRARY_PATH}
ENV LD_LIBRARY_PATH=/opt/hpcx/ucc/lib/:/opt/hpcx/ucx/lib/:${LD_LIBRARY_PATH}
ENV TF_ADJUST_HUE_FUSED=1
ENV TF_ADJUST_SATURATION_FUSED=1
ENV TF_AUTOTUNE_THRESHOLD=2
ENV TF_ENABLE_WINOGRAD_NONFUSED=1

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        curl \
        libb64-0d \
        libcurl4-openssl-dev \
        libgomp1 \
        libgoogle-perftools-dev \
        libjemalloc-dev \
        libnuma-dev \
        libre2-9 \
        python3 \
    && rm -rf /var/lib/apt/lists/*

RUN rm -rf /opt/tritonserver/* \
    && (getent passwd 1000 > /dev/null || useradd --uid 1000 --user-group --no-create-home triton-server)

COPY --from=full /usr/lib/*-linux-gnu/libdcgm*.so* /usr/local/lib/
RUN ldconfig

WORKDIR /opt/tritonserver
COPY --from=full /opt/tritonserver/LICENSE /opt/tritonserver/TRITON_VERSION /opt/tritonserver/NVIDIA_Deep_Learning_Container_License.pdf ./
COPY --from=full /opt/tritonserver/bin/ bin/
COPY --from=full /opt/tritonserver/lib/ lib/
COPY --from=full /opt/tritonserver/include/ include/
COPY --from=full /opt/tritonserver/backends/dali/ backends/dali/
COPY --from=full /opt/tritonserver/backends/onnxruntime/ backends/onnxruntime/
COPY --from=full /opt/tritonserver/backends/pytorch/ backends/pytorch/
COPY --from=full /opt/tritonserver/backends/tensorflow/ backends/tensorflow/

COPY server/ /opt/falconry/server/
USER 1000:1000
ENTRYPOINT ["python3", "/opt/falconry/server/entrypoint.py"]
