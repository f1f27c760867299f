"""Where a server finds the repository."""

# OCI unzips the artifact, read-only, at /opt/ds/model/deployed_model, and `model_repository/` is
# at the artifact's root (Oracle: "Bring Your Own Container", mod-dep-byoc.htm).
MODEL_REPOSITORY = "/opt/ds/model/deployed_model/model_repository"

# The model that deployments call: NVIDIA's name for the model that sees all of the text.
FRONT_MODEL = "tensorrt_llm_bls"
