"""tritonclient: infer with JSON and binary tensors, compressed too; a stream over gRPC."""

import os
import queue

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

VALUES = {
    "text_input": ("BYTES", np.array([["Explain falcons"]], np.object_)),
    "max_tokens": ("INT32", np.array([[8]], np.int32)),
}


def inputs(client, **further):
    """The request's tensors, for one of the two clients."""
    made = []
    for name, (kind, value) in {**VALUES, **further}.items():
        made.append(client.InferInput(name, list(value.shape), kind))
        made[-1].set_data_from_numpy(value)
    return made


with http.InferenceServerClient(os.environ["URL"].removeprefix("http://")) as client:
    for model in ("ensemble", "tensorrt_llm_bls"):
        for encoding in (None, "gzip", "deflate"):
            result = client.infer(
                model,
                inputs(http),
                request_compression_algorithm=encoding,
                response_compression_algorithm=encoding,
            )
            assert result.as_numpy("text_output").size == 1, model
        plain = [http.InferRequestedOutput("text_output", binary_data=False)]
        assert client.infer(model, inputs(http), outputs=plain).as_numpy("text_output").size == 1

received = queue.Queue()
with grpc.InferenceServerClient(os.environ["GRPC"]) as client:
    client.start_stream(lambda result, error: received.put((result, error)))
    streamed = ("BOOL", np.array([[True]]))
    client.async_stream_infer("tensorrt_llm_bls", inputs(grpc, stream=streamed))
    result, error = received.get(timeout=60)
    assert error is None, error
    assert result.as_numpy("text_output").shape == (1,)
    client.stop_stream()
