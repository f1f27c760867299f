"""STAND-IN: a package of the image that is not the front's."""

raise ImportError("this aiohttp belongs to the image, not to the front")
