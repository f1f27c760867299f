"""`python -m local_oci`."""

from __future__ import annotations

import sys

from local_oci.cli import main

sys.exit(main())
