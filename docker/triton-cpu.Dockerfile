# The CPU server image: the real tritonserver of the nvidia-pytriton wheel, OpenVINO GenAI, and the
# front (docker/server).
#
# BASE is any Debian 12, such as debian:bookworm-slim or what scripts/base_image.sh makes, by its
# digest: `make image` resolves the profile's image.base. Its own apt sources are used as they are.
# The context holds this file, server/, requirements.txt (the rows
# of requirements.lock that triton-cpu.packages names) and certificates/, which is empty or has a
# ca.crt for pip to trust in place of its own list.
ARG BASE

FROM ${BASE} AS runtime
# curl: Oracle's service runs the health check inside the container with it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libpython3.11 python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

FROM runtime AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY certificates/ /certificates/
COPY requirements.txt /
RUN python3 -m venv /opt/falconry/venv \
    && if [ -f /certificates/ca.crt ]; then export PIP_CERT=/certificates/ca.crt; fi \
    && /opt/falconry/venv/bin/python -m pip install --disable-pip-version-check --no-cache-dir \
        --no-compile --no-deps --require-hashes --requirement /requirements.txt

# Removes what serving never loads: installers, tests, headers, pytriton's own Python code, the
# stubs of other Pythons with the libpython of one, and OpenVINO's converters, frontends of foreign
# formats and plugins for other devices. The Python backend looks for its stub beside itself. The
# server stays in site-packages, where it finds its libraries by RPATH.
RUN cd /opt/falconry/venv/lib/python3.11/site-packages \
    && triton=pytriton/tritonserver \
    && mv "$triton"/python_backend_stubs/3.11/triton_python_backend_stub "$triton"/backends/python/ \
    && chmod 755 "$triton"/bin/tritonserver "$triton"/backends/python/triton_python_backend_stub \
    && find pytriton -mindepth 1 -maxdepth 1 ! -name tritonserver -exec rm -r {} + \
    && rm -r pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth \
        ../../../bin/pip* \
        "$triton"/python_backend_stubs nvidia_pytriton.libs/libpython3-*.13.so.* \
        openvino/cmake openvino/include openvino/tools openvino/torch \
        openvino/libs/cache.json openvino/libs/tbb.pc openvino/libs/libopenvino_c.so.* \
        openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/libopenvino_intel_npu_plugin.so \
    && find openvino/libs -name '*_frontend.so.*' ! -name '*_ir_frontend.so.*' -delete \
    && rm -r openvino/frontend/jax openvino/frontend/onnx openvino/frontend/paddle \
        openvino/frontend/pytorch openvino/frontend/tensorflow \
    && find . -name tests -type d -prune -exec rm -r {} +

# Nothing writes bytecode at run time, so it is all there; by hash, since layers may lose times. The
# imports and ldd prove that nothing needs what was removed.
COPY server/ /opt/falconry/server/
RUN cd /opt/falconry/server \
    && /opt/falconry/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/falconry/venv/lib . \
    && CI=true /opt/falconry/venv/bin/python -c \
        'import front, numpy, openvino_genai, openvino_tokenizers, tokenizers, tritonclient.utils' \
    && cd /opt/falconry/venv/lib/python3.11/site-packages/pytriton/tritonserver \
    && ldd bin/tritonserver backends/python/*_stub backends/python/*.so > /libraries \
    && ! grep 'not found' /libraries

FROM runtime
# The path that NVIDIA's images have, so that Triton's own defaults are right.
RUN ln -s /opt/falconry/venv/lib/python3.11/site-packages/pytriton/tritonserver /opt/tritonserver
COPY --from=build /opt/falconry/venv/ /opt/falconry/venv/
COPY --from=build /opt/falconry/server/ /opt/falconry/server/
# The Python backend's stub runs the first python3 in PATH.
ENV PATH=/opt/falconry/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
# Interval, timeout and retries are of Oracle's local-test example, the start period of its Triton
# sample (oracle-samples/oci-data-science-ai-samples).
HEALTHCHECK --interval=30s --timeout=3s --start-period=15m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "--noproxy", "*", \
        "http://127.0.0.1:8000/v2/health/ready"]
ENTRYPOINT ["/opt/falconry/venv/bin/python", "/opt/falconry/server/entrypoint.py"]
CMD ["tritonserver", "--model-repository=/opt/ds/model/deployed_model/model_repository"]
