"""The freeform tags by which any runner knows what a deployment is; OCI allows ten a resource."""

ARTIFACT_TAG = "falconry-artifact"
"""The digest of the artifact that is deployed; on models, of the artifact that they hold."""

IMAGE_TAG = "falconry-image"
"""The digest of the image."""

ENGINE_TAG = "falconry-engine"
"""The key of the engine in the artifact."""

KEY_TAG = "falconry-key"
"""The deployment stage's key, once the deployment has answered a question as it then was."""

MODEL_TAG = "falconry-model"
"""The OCID of the model that last answered: what a failed change returns to."""

REFERENCE_TAG = "falconry-reference"
"""The reference of the image that last answered."""
